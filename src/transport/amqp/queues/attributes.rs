//! The attributes of a queue that another program declared, found out without the management interface.
//!
//! A declare that does not fit is refused with the name and value of the first attribute that differs, in an order that is
//! always the same, the type of the queue last (measured on 3.10 and 4.0). So a declare with a type that does not exist tells one
//! attribute more each time, until it names the type itself, and can never make a queue, should there be none any more.
//!
//! Each of these costs a channel and a line in the broker's log. So a queue is looked at once in the life of the process, and
//! one that was declared as we declare it is found to be so by the first question, which costs no line. What policies set is not
//! seen.

use std::collections::BTreeMap;

use lapin::{Connection, options::QueueDeclareOptions, types::AMQPValue};

use super::{
    declare_error::{Current, differing},
    own_queue::{DELIVERY_LIMIT, OwnQueue, arguments},
};
use crate::{
    celery::CeleryQueue,
    transport::amqp::{
        broker_error::{Fault, answer, describe, reply_code},
        connect::channel::{close, open_channel, short},
        message::headers::{number, text},
    },
};

/// The type of a queue that was declared without one.
const CLASSIC: &str = "classic";
/// A type of queue that does not exist.
const NO_TYPE: &str = "asynctask-none";
/// Questions about one queue: it has at most as many attributes.
const QUESTIONS: usize = 24;
/// A delivery limit from which on it does not matter: some years of sweeps.
const MANY_RETURNS: u64 = 100_000;
/// A delivery limit below which a person can come to it, by stops and listings.
const FEW_RETURNS: u64 = 1_000;

/// The attributes of a queue.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Attributes {
    pub(crate) durable: bool,
    pub(crate) auto_delete: bool,
    /// `classic`, `quorum`, `stream`.
    pub(crate) kind: String,
    /// The others.
    pub(crate) arguments: BTreeMap<String, AMQPValue>,
    /// The arguments are a guess of ours, of which nothing is known to be wrong.
    guessed: bool,
}

/// What an answer told.
#[derive(Debug, PartialEq)]
enum Learned {
    More,
    /// Nothing is left to be asked.
    All,
    Nothing,
}

impl Attributes {
    /// Those of a queue that this program declares.
    pub(crate) fn ours(own_queue: &OwnQueue, celery: Option<&CeleryQueue>) -> Self {
        let table = arguments(own_queue, celery);
        let arguments = table.inner().iter().map(|(name, value)| (name.to_string(), value.clone()));
        let arguments = arguments.filter(|(name, _)| name != "x-queue-type").collect();
        let kind = table.inner().get("x-queue-type").and_then(text).unwrap_or_else(|| CLASSIC.to_owned());
        Self { durable: true, auto_delete: false, kind, arguments, guessed: true }
    }

    /// Asks for those of an existing queue; `None`: they cannot be found out. With `may_make` one that is gone meanwhile may
    /// be made anew.
    ///
    /// # Errors
    /// If a question was not answered, of which nothing follows.
    pub(crate) async fn find(
        connection: &Connection,
        own_queue: &OwnQueue,
        celery: Option<&CeleryQueue>,
        may_make: bool,
    ) -> Result<Option<Self>, Fault> {
        let name = own_queue.name();
        let mut found = Self::ours(own_queue, celery);
        if may_make {
            // A classic queue is declared without a type, which is not the same to each broker.
            let kind = Some(found.kind.clone()).filter(|kind| kind != CLASSIC);
            match found.ask(connection, &name, kind.as_deref()).await? {
                Learned::More => {}
                Learned::All => return Ok(Some(found)),
                Learned::Nothing => return Ok(None),
            }
        }
        for _ in 0..QUESTIONS {
            match found.ask(connection, &name, Some(NO_TYPE)).await? {
                Learned::More => {}
                Learned::All => return found.with_limit(connection, &name).await.map(Some),
                Learned::Nothing => return Ok(None),
            }
        }
        Ok(None)
    }

    /// The limit of a quorum queue is compared after its type (3.10.8).
    async fn with_limit(mut self, connection: &Connection, name: &str) -> Result<Self, Fault> {
        if self.kind == "quorum" {
            let ours = AMQPValue::LongInt(DELIVERY_LIMIT);
            self.arguments.entry("x-delivery-limit".to_owned()).or_insert(ours);
            self.guessed = false;
            self.ask(connection, name, Some("quorum")).await?;
        }
        Ok(self)
    }

    /// Takes over what the broker says against a declare with these.
    async fn ask(&mut self, connection: &Connection, name: &str, kind: Option<&str>) -> Result<Learned, Fault> {
        let channel = open_channel(connection).await.map_err(|error| Fault::of(&error))?;
        let options = QueueDeclareOptions {
            durable: self.durable,
            auto_delete: self.auto_delete,
            ..QueueDeclareOptions::default()
        };
        let mut table = lapin::types::FieldTable::default();
        for (name, value) in &self.arguments {
            table.insert(short(name), value.clone());
        }
        if let Some(kind) = kind {
            table.insert("x-queue-type".into(), AMQPValue::LongString(kind.into()));
        }
        match answer(channel.queue_declare(short(name), options, table)).await {
            Ok(_) => {
                close(&channel);
                Ok(Learned::All)
            }
            Err(error) if reply_code(&error) == Some(406) => Ok(self.learn(&describe(&error))),
            Err(error) => match Fault::of(&error) {
                fault @ (Fault::TimedOut(_) | Fault::Broken(_)) => Err(fault),
                // A permission that is missing, and whatever else it says of this queue.
                Fault::Absent(_) | Fault::Forbidden(_) | Fault::Refused(_) => Ok(Learned::Nothing),
            },
        }
    }

    /// Takes over what differs.
    fn learn(&mut self, answer: &str) -> Learned {
        let Some((name, current)) = differing(answer) else { return Learned::Nothing };
        let is_true = matches!(current, Current::Value { value: "true", .. });
        match name {
            "durable" => self.durable = is_true,
            "auto_delete" => self.auto_delete = is_true,
            "x-queue-type" => {
                self.kind = match current {
                    Current::None => CLASSIC.to_owned(),
                    Current::Value { value, .. } => value.to_owned(),
                };
                return Learned::All;
            }
            name => match current {
                // What others declare has none of ours, as a rule.
                Current::None if self.guessed => self.arguments.clear(),
                Current::None => {
                    if self.arguments.remove(name).is_none() {
                        return Learned::Nothing;
                    }
                }
                Current::Value { value, kind } => {
                    let as_number = match kind {
                        Some(kind) => !matches!(kind, "longstr" | "bool"),
                        None => self.arguments.get(name).is_some_and(|sent| number(sent).is_some()),
                    };
                    let value = match value.parse() {
                        Ok(number) if as_number => AMQPValue::LongLongInt(number),
                        _ if kind == Some("bool") => AMQPValue::Boolean(is_true),
                        _ => AMQPValue::LongString(value.into()),
                    };
                    if self.arguments.insert(name.to_owned(), value.clone()) == Some(value) {
                        return Learned::Nothing;
                    }
                }
            },
        }
        if name.starts_with("x-") {
            self.guessed = false;
        }
        Learned::More
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.arguments.get(name).and_then(number).and_then(|number| u64::try_from(number).ok())
    }

    fn text(&self, name: &str) -> Option<String> {
        self.arguments.get(name).and_then(text)
    }

    /// Why tasks must not be put here, or cannot be worked from here.
    pub(crate) fn refusal(&self, own_queue: &OwnQueue) -> Option<String> {
        let name = own_queue.name();
        let Some((queue, after)) = own_queue.leads_back() else {
            return (self.kind == "stream").then(|| {
                format!("queue \"{name}\" is a stream, which keeps what is acknowledged: it cannot be worked; use a quorum queue")
            });
        };
        let ttl = self.number("x-message-ttl");
        let target = (self.text("x-dead-letter-exchange"), self.text("x-dead-letter-routing-key"));
        let why = match (ttl, &target) {
            _ if self.kind == "stream" => "it is a stream".to_owned(),
            (None, _) => "it has no x-message-ttl, so that tasks would stay there".to_owned(),
            (Some(ttl), _) if ttl != after => format!("its x-message-ttl is {ttl}"),
            (_, (None, _)) => "it dead-letters nowhere, so that tasks would be lost".to_owned(),
            (_, (Some(exchange), key)) if !exchange.is_empty() || key.as_deref() != Some(queue) => {
                let key = key.as_deref().unwrap_or_default();
                format!("it dead-letters to exchange \"{exchange}\", routing key \"{key}\"")
            }
            _ if !self.durable => "it is not durable".to_owned(),
            _ if self.auto_delete => "it is deleted with its last consumer (auto-delete)".to_owned(),
            _ if self.arguments.contains_key("x-expires") => "it is deleted when unused (x-expires)".to_owned(),
            _ if self.drops().is_some() => "it drops tasks when it is full (x-max-length)".to_owned(),
            _ => return None,
        };
        Some(format!(
            "delay queue \"{name}\" was not declared by this program: {why}; delete it, and it is made as it must be"
        ))
    }

    /// The length limit at which it drops messages, if it has one.
    fn drops(&self) -> Option<(&'static str, u64)> {
        let refuses = self.text("x-overflow").is_some_and(|overflow| overflow.starts_with("reject-publish"));
        let longest = ["x-max-length", "x-max-length-bytes"].into_iter();
        longest.filter(|_| !refuses).find_map(|name| Some((name, self.number(name)?)))
    }

    /// Whether messages may be taken and given back as often as one likes. A quorum queue without a limit has one of 20 from
    /// RabbitMQ 4.0 on.
    pub(crate) fn bears_returns(&self) -> bool {
        match self.kind.as_str() {
            "classic" => true,
            "quorum" => self.number("x-delivery-limit").is_some_and(|limit| limit >= MANY_RETURNS),
            _ => false,
        }
    }

    /// By what a quorum queue drops messages that are given back not that often. What it has without a limit of its own
    /// depends on the broker, of which the library does not tell us the version. A negative one is none.
    pub(crate) fn few_returns(&self) -> Option<String> {
        let few = |limit: u64| (limit < FEW_RETURNS).then(|| format!("x-delivery-limit {limit}"));
        match self.arguments.get("x-delivery-limit") {
            _ if self.kind != "quorum" => None,
            Some(_) => self.number("x-delivery-limit").and_then(few),
            None => Some("it has no x-delivery-limit, which is 20 from RabbitMQ 4.0 on".to_owned()),
        }
    }

    /// By what a queue loses tasks, or dead letters that are to be kept so long (in milliseconds), each with what to do. The limit
    /// that a quorum queue of Celery's has by default is not told: its deliveries are counted here, too.
    pub(crate) fn hazards(&self, own_queue: &OwnQueue, keep: Option<u64>, is_celery: bool) -> Vec<String> {
        let (what, them) = match own_queue {
            OwnQueue::Dead(_) => ("dead-letter queue", "dead letters"),
            OwnQueue::Work(_) | OwnQueue::Delay(..) | OwnQueue::Frozen(_) => ("queue", "tasks"),
        };
        let name = own_queue.name();
        let mut hazards = Vec::new();
        let mut say = |text: String| hazards.push(format!("{what} \"{name}\" {text}"));
        if self.auto_delete {
            say(format!(
                "is deleted with its {them} when its last consumer goes (auto-delete): at a stop, a reload that removes it, or a \
                 lost connection; declare it without auto-delete"
            ));
        }
        if !self.durable {
            say(format!("is not durable: a restart of the broker deletes it with its {them}; declare it as durable"));
        }
        if let Some(unused) = self.number("x-expires") {
            say(format!(
                "is deleted with its {them} when nobody used it for {unused} ms (x-expires); declare it without x-expires"
            ));
        }
        let has_target = self.arguments.contains_key("x-dead-letter-exchange");
        match (own_queue, self.number("x-message-ttl")) {
            (OwnQueue::Dead(_), Some(ttl)) if keep.is_none_or(|keep| ttl < keep) => say(format!(
                "keeps nothing longer than {ttl} ms (x-message-ttl), which is shorter than `dead_letter.keep`; declare it without \
                 x-message-ttl"
            )),
            (OwnQueue::Work(_), Some(ttl)) if !has_target => say(format!(
                "loses tasks that wait longer than {ttl} ms (x-message-ttl); declare it without, or with a dead-letter target"
            )),
            _ => {}
        }
        if let Some((argument, longest)) = self.drops() {
            say(format!(
                "drops the oldest when it is full ({argument} {longest}, overflow drop-head); declare it with the overflow \
                 reject-publish"
            ));
        }
        let has_default_limit = !self.arguments.contains_key("x-delivery-limit");
        if let Some(why) = self.few_returns().filter(|_| !is_celery || !has_default_limit) {
            let by = match own_queue {
                OwnQueue::Dead(_) => "with which `failed` cannot work it",
                OwnQueue::Work(_) | OwnQueue::Delay(..) | OwnQueue::Frozen(_) => {
                    "which each stop and each lost connection count toward"
                }
            };
            let limit = DELIVERY_LIMIT;
            say(format!(
                "drops {them} that were given back too often ({why}), {by}; declare it with x-delivery-limit {limit}"
            ));
        }
        hazards
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue() -> OwnQueue {
        OwnQueue::Work("a".to_owned())
    }

    /// What is known after these answers.
    fn learned(own_queue: &OwnQueue, answers: &[&str]) -> Attributes {
        let mut attributes = Attributes::ours(own_queue, None);
        for answer in answers {
            assert_ne!(attributes.learn(answer), Learned::Nothing, "{answer}");
        }
        attributes
    }

    #[test]
    fn the_brokers_words_are_taken_apart() {
        let text = "PRECONDITION_FAILED - inequivalent arg 'x-message-ttl' for queue 'a' in vhost '/': received none \
                    but current is the value '5000' of type 'signedint'";
        let current = Current::Value { value: "5000", kind: Some("signedint") };
        assert_eq!(differing(text), Some(("x-message-ttl", current)));
        let text = "inequivalent arg 'x-queue-type' for queue 'a' in vhost '/': received the value 'quorum' of type \
                    'longstr' but current is none";
        assert_eq!(differing(text), Some(("x-queue-type", Current::None)));
        let text =
            "inequivalent arg 'x-queue-type' for queue 'a' in vhost '/': received 'quorum' but current is 'stream'";
        assert_eq!(differing(text), Some(("x-queue-type", Current::Value { value: "stream", kind: None })));
        assert_eq!(differing("inequivalent arg 'durable' for queue"), None);
        assert_eq!(
            differing("invalid arg 'x-queue-type' for queue 'a' in vhost '/': \"unsupported queue type\""),
            None
        );
    }

    #[test]
    fn a_plain_queue_takes_few_questions() {
        let found = learned(
            &queue(),
            &[
                "inequivalent arg 'auto_delete' for queue 'a' in vhost '/': received 'false' but current is 'true'",
                "inequivalent arg 'x-dead-letter-exchange' for queue 'a' in vhost '/': received the value '' of type 'longstr' but \
             current is none",
                "inequivalent arg 'x-max-length' for queue 'a' in vhost '/': received none but current is the value '10' of type \
             'signedint'",
                "inequivalent arg 'x-queue-type' for queue 'a' in vhost '/': received the value 'asynctask-none' of type 'longstr' \
             but current is none",
            ],
        );
        assert_eq!((found.durable, found.auto_delete, found.kind.as_str()), (true, true, "classic"));
        assert_eq!(
            found.arguments.into_iter().collect::<Vec<_>>(),
            [("x-max-length".to_owned(), AMQPValue::LongLongInt(10))]
        );
    }

    #[test]
    fn an_answer_that_leads_nowhere_ends_it() {
        let mut found = Attributes::ours(&queue(), None);
        let text = "inequivalent arg 'x-odd' for queue 'a' in vhost '/': received none but current is the value 'v' of type 'x'";
        assert_eq!((found.learn(text), found.learn(text)), (Learned::More, Learned::Nothing));
        assert_eq!(found.learn("NOT_ALLOWED"), Learned::Nothing);
    }

    #[test]
    fn a_delay_queue_must_lead_back() {
        let own_queue = OwnQueue::Delay("a".to_owned(), 1_000);
        let text = |text: &str| Some(AMQPValue::LongString(text.into()));
        let number = Some(AMQPValue::LongInt(5));
        let ours = Attributes::ours(&own_queue, None);
        assert_eq!(ours.refusal(&own_queue), None);
        assert_eq!(Attributes { kind: "classic".to_owned(), ..ours.clone() }.refusal(&own_queue), None);
        assert!(Attributes { durable: false, ..ours.clone() }.refusal(&own_queue).unwrap().contains("not durable"));
        for (why, name, value) in [
            ("no x-message-ttl", "x-message-ttl", None),
            ("x-message-ttl is 5", "x-message-ttl", number.clone()),
            ("routing key \"b\"", "x-dead-letter-routing-key", text("b")),
            ("exchange \"e\"", "x-dead-letter-exchange", text("e")),
            ("nowhere", "x-dead-letter-exchange", None),
            ("x-expires", "x-expires", number),
        ] {
            let mut found = ours.clone();
            match value {
                Some(value) => found.arguments.insert(name.to_owned(), value),
                None => found.arguments.remove(name),
            };
            let refusal = found.refusal(&own_queue).unwrap_or_else(|| panic!("{why}: not refused"));
            assert!(refusal.contains(why) && refusal.contains("\"a.retry.1000\""), "{refusal}");
        }
    }

    #[test]
    fn what_loses_tasks_is_named() {
        assert_eq!(Attributes::ours(&queue(), None).hazards(&queue(), None, false), [""; 0]);
        let dead = OwnQueue::Dead("a_failed".to_owned());
        let number = AMQPValue::LongInt(5_000);
        let with = |own_queue: &OwnQueue, name: &str, keep| {
            let mut found = Attributes::ours(own_queue, None);
            found.arguments.remove("x-dead-letter-exchange");
            found.arguments.remove("x-overflow");
            found.arguments.insert(name.to_owned(), number.clone());
            found.hazards(own_queue, keep, false).concat()
        };
        assert!(with(&queue(), "x-expires", None).contains("for 5000 ms (x-expires)"));
        assert!(with(&queue(), "x-message-ttl", None).contains("longer than 5000 ms"));
        assert!(with(&queue(), "x-max-length", None).contains("x-max-length 5000, overflow drop-head"));
        assert!(with(&dead, "x-message-ttl", Some(6_000)).contains("shorter than `dead_letter.keep`"));
        assert!(with(&dead, "x-message-ttl", None).contains("dead-letter queue \"a_failed\" keeps nothing longer"));
        assert_eq!(with(&dead, "x-message-ttl", Some(5_000)), "");
        let limited = |own_queue: &OwnQueue, arguments: &[(&str, i32)]| {
            let mut found = Attributes::ours(own_queue, None);
            found.arguments =
                arguments.iter().map(|(name, value)| ((*name).to_owned(), AMQPValue::LongInt(*value))).collect();
            let (hazards, traits) = (found.hazards(own_queue, None, false).concat(), found.few_returns());
            assert_eq!(hazards.is_empty(), traits.is_none());
            hazards
        };
        assert!(
            limited(&dead, &[("x-delivery-limit", 2)]).contains("\"a_failed\" drops dead letters that were given back")
        );
        assert!(limited(&queue(), &[("x-delivery-limit", 999)]).contains("(x-delivery-limit 999)"));
        assert!(limited(&queue(), &[]).contains("no x-delivery-limit"));
        for enough in [1_000, 1_000_000, -1] {
            assert_eq!(limited(&dead, &[("x-delivery-limit", enough)]), "");
        }
        let classic =
            Attributes { kind: "classic".to_owned(), arguments: BTreeMap::new(), ..Attributes::ours(&queue(), None) };
        assert_eq!(classic.hazards(&queue(), None, false), [""; 0]);
        // What Celery declares by itself is not told against it.
        let quorum = CeleryQueue { declare_as: crate::celery::DeclareAs::Quorum, ..CeleryQueue::of("a") };
        let mut theirs = Attributes::ours(&queue(), Some(&quorum));
        assert_eq!((theirs.kind.as_str(), theirs.hazards(&queue(), None, true)), ("quorum", Vec::new()));
        theirs.arguments.insert("x-delivery-limit".to_owned(), AMQPValue::LongInt(2));
        assert!(theirs.hazards(&queue(), None, true).concat().contains("(x-delivery-limit 2)"));
        let plain = Attributes::ours(&queue(), Some(&CeleryQueue::of("a")));
        assert_eq!((plain.kind.as_str(), plain.arguments.len()), ("classic", 0));
        let found = Attributes { durable: false, auto_delete: true, ..Attributes::ours(&queue(), None) };
        assert_eq!(found.hazards(&queue(), None, false).len(), 2);
        assert!(Attributes { kind: "stream".to_owned(), ..found }.refusal(&queue()).unwrap().contains("is a stream"));
    }
}
