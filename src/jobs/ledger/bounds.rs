//! What an entry may bring into the state of a job, which is stored again with each change: whoever forges an entry does not make it
//! grow. What masters store is within these bounds.

use super::out::Out;
use crate::{
    jobs::entry::{End, How, LONGEST_ERROR, LONGEST_REASON, MemberId, News, What},
    json_text::JsonText,
    limits, text,
};

/// Cuts what is shown of an end, and drops what is handed on and too long. The end itself counts.
pub(super) fn end(end: &mut End, out: &mut Out) {
    bounded(&mut end.memo, limits::MEMO, "memo", &end.member, out);
    match &mut end.how {
        How::Done { result, .. } => bounded(result, limits::JOB_RESULT, "result", &end.member, out),
        How::Failed { reason, error, dead_letter } => {
            shown(reason, LONGEST_REASON);
            shown(error, LONGEST_ERROR);
            // One that was cut would name another dead letter, or none.
            dead_letter.take_if(|id| id.len() > LONGEST_ID);
        }
    }
}

/// The same of news.
pub(super) fn news(news: &mut News, out: &mut Out) {
    bounded(&mut news.memo, limits::MEMO, "memo", &news.member, out);
    if let What::Retrying { error, .. } = &mut news.what {
        shown(error, LONGEST_ERROR);
    }
}

/// Bytes of the id of a dead letter that is shown; ids of ours have 36.
const LONGEST_ID: usize = 1024;

fn shown(written: &mut String, longest: usize) {
    if written.len() > longest || written.contains(text::is_unsafe) {
        *written = text::one_line(written, longest);
        text::bound(written, longest);
    }
}

fn bounded(given: &mut Option<JsonText>, longest: usize, what: &str, member: &MemberId, out: &mut Out) {
    let Some(given) = given.take_if(|given| given.as_str().len() > longest) else { return };
    let (job, step) = (text::one_line(&member.job, limits::FAULT), text::one_line(&member.step, limits::FAULT));
    let bytes = given.as_str().len();
    out.warning(format!("Job {job}: a {what} of {bytes} bytes in step {step} is dropped: {longest} are the most"));
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Bench, chain, of};
    use crate::{
        jobs::{
            entry::{Entry, How, What},
            order::Order,
            record::{EntryId, StoredEntry},
        },
        json_text::JsonText,
        limits,
    };

    #[test]
    fn what_is_forged_does_not_make_a_state_grow() {
        let mut bench = Bench::new(vec![chain("p", &["a", "b"])]);
        bench.start("p", "j", "{}");
        let task = bench.take("a");
        let long = "x".repeat(100_000);
        let quoted = JsonText::parse(&format!("\"{long}\"")).unwrap();
        let again_at = bench.now;
        bench.news(&task, What::Retrying { error: format!("a\nb{long}"), again_at }, Some(quoted.as_str()));
        let step = &bench.view("j").steps[0];
        assert!(step.memo.is_none() && step.retrying.as_ref().unwrap().error.starts_with("a\\nbxx"), "{step:?}");
        assert_eq!(bench.said("Job j: a memo of 100002 bytes in step a is dropped: 16384 are the most"), 1);
        let how = How::Failed { reason: long.clone(), error: long.clone(), dead_letter: Some(long.clone()) };
        let end = bench.end(&task, how, Some(quoted.as_str()));
        bench.fold(vec![end]);
        assert!(bench.stored["j"].content.len() < 4096, "{}", bench.stored["j"].content);
        let how = How::Done { execution: uuid::Uuid::from_u128(4), items: 0, result: Some(quoted) };
        let end = bench.end(&task, how, None);
        bench.fold(vec![end]);
        assert_eq!(bench.states("j"), "running a:done b:waiting");
        assert!(bench.stored["j"].content.len() < 4096 && bench.said("a result of 100002 bytes") == 1);
        assert_eq!(
            of(&bench.take("b")).inputs.as_ref().unwrap().as_str(),
            r#"{"a":{"state":"done","result":null,"memo":null}}"#
        );
    }

    #[test]
    fn an_order_that_cannot_be_read_is_answered() {
        let mut bench = Bench::new(vec![chain("p", &["a"])]);
        let mut fold =
            |body: Vec<u8>| bench.ledger.fold(bench.now, vec![StoredEntry { id: EntryId(1), body }]).advance.answers;
        let newer = br#"{"order":{"id":"o1","at":5,"what":{"defrost":{"job":"j"}}}}"#;
        let answers = fold(newer.to_vec());
        assert!(answers.len() == 1 && answers[0].0 == "o1" && answers[0].1.contains("refused"), "{answers:?}");
        let padding = "x".repeat(crate::jobs::entry::LONGEST);
        let answers = fold(format!(r#"{{"order":{{"id":"o2","at":5,"what":"{padding}"}}}}"#).into_bytes());
        assert!(answers.len() == 1 && answers[0].0 == "o2" && answers[0].1.len() < 500, "{answers:?}");
        for body in ["{", "{\"end\":{}}", "7"] {
            assert!(fold(body.as_bytes().to_vec()).is_empty());
        }
        let what = super::super::tests::start("p", "j", "{}");
        let id = "x".repeat(limits::FAULT);
        let answers = fold(Entry::Order(Box::new(Order { id, at: crate::clock::Timestamp(1), what })).to_bytes());
        assert!(answers.is_empty(), "it would be remembered");
    }
}
