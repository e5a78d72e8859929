//! What a process for one task is told beside its payload: its place in a job in variables, and the files that it reads from and
//! writes to. A task that nobody waits for a result of, and that is of no job and has no memo, has no files.

use std::{ffi::OsString, io};

use crate::{
    exec_options::ExecOptions,
    limits,
    master::core::event::{FileText, Once, Written, WrittenFile},
    membership::Membership,
    process::TaskFiles,
};

const INPUTS: &str = "inputs";
const MEMO: &str = "memo";
const RESULT: &str = "result";
const SUBMIT: &str = "submit";
const SNOOZE: &str = "snooze";

/// Bytes that are read of a result and of a memo. What counts may be less; white space around it does not count.
const SMALL: u64 = limits::RESULT + 1024;

/// The files of a task.
#[derive(Debug)]
pub(super) struct OnceFiles {
    files: TaskFiles,
    names: Vec<&'static str>,
}

impl OnceFiles {
    /// Those that the task has, if it has any.
    ///
    /// # Errors
    /// Those of the file system.
    pub(super) fn of(once: &Once, options: &ExecOptions) -> io::Result<Option<Self>> {
        let is_of_job = once.job.is_some();
        let inputs = once.job.as_ref().and_then(|place| place.inputs.as_ref());
        let [inputs, memo] = [inputs, once.memo.as_ref()].map(|text| text.map_or("", |text| text.as_str()).as_bytes());
        let all: [(bool, (&'static str, &[u8])); 5] = [
            (is_of_job, (INPUTS, inputs)),
            (is_of_job || once.memo.is_some(), (MEMO, memo)),
            (is_of_job || once.is_result_wanted, (RESULT, b"")),
            (is_of_job, (SUBMIT, b"")),
            (is_of_job, (SNOOZE, b"")),
        ];
        let wanted: Vec<_> = all.into_iter().filter(|(is_wanted, _)| *is_wanted).map(|(_, file)| file).collect();
        if wanted.is_empty() {
            return Ok(None);
        }
        let files = TaskFiles::write(&wanted, options)?;
        Ok(Some(Self { files, names: wanted.into_iter().map(|(name, _)| name).collect() }))
    }

    /// Where they are, as the program finds it in its environment.
    pub(super) fn variables(&self) -> impl Iterator<Item = (OsString, OsString)> {
        self.names.iter().map(|name| {
            let variable = match *name {
                INPUTS => "ASYNCTASK_INPUTS",
                MEMO => "ASYNCTASK_MEMO",
                RESULT => "ASYNCTASK_RESULT",
                SNOOZE => "ASYNCTASK_SNOOZE",
                _ => "ASYNCTASK_SUBMIT",
            };
            (variable.into(), self.files.path(name).into())
        })
    }

    /// What the process has written; its end is known.
    pub(super) fn written(&self) -> Written {
        let read = |name: &str, most: u64| -> Option<WrittenFile> {
            let read = self.names.contains(&name).then(|| self.files.read(name, most))?;
            // Who removes a file has nothing to say in it.
            if read.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
                return None;
            }
            Some(read.map(|(text, bytes)| FileText { text, bytes }).map_err(|error| error.to_string()))
        };
        Written {
            result: read(RESULT, SMALL),
            submit: read(SUBMIT, limits::FRAME as u64),
            memo: read(MEMO, SMALL),
            snooze: read(SNOOZE, SMALL),
        }
    }
}

/// The variables that tell a place in a job.
pub(super) fn place_in_job(place: &Membership) -> impl Iterator<Item = (OsString, OsString)> {
    let index = place.index.to_string();
    let always = [
        ("ASYNCTASK_JOB", Some(&place.job)),
        ("ASYNCTASK_PIPELINE", Some(&place.pipeline)),
        ("ASYNCTASK_JOB_KEY", place.key.as_ref()),
        ("ASYNCTASK_STEP", Some(&place.step)),
        ("ASYNCTASK_INDEX", Some(&index)),
    ];
    let told = always.into_iter().filter_map(|(name, value)| Some((name.into(), value?.into())));
    let wipe = place.wipe.then(|| ("ASYNCTASK_WIPE".into(), "1".into()));
    told.chain(wipe).collect::<Vec<_>>().into_iter()
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::process::CommandExt, process::Command};

    use uuid::Uuid;

    use super::*;
    use crate::{exec_options::User, json_text::JsonText};

    const SCRIPT: &str = r#"
        set -eu
        [ "$(cat "$ASYNCTASK_INPUTS")" = '{"a":{"state":"done","result":7}}' ]
        [ "$(cat "$ASYNCTASK_MEMO")" = '{"page": 1}' ]
        [ -z "$(cat "$ASYNCTASK_RESULT")$(cat "$ASYNCTASK_SUBMIT")" ]
        echo "$ASYNCTASK_JOB $ASYNCTASK_PIPELINE $ASYNCTASK_JOB_KEY $ASYNCTASK_STEP $ASYNCTASK_INDEX ${ASYNCTASK_WIPE-}" >"$ASYNCTASK_RESULT"
        for number in 1 2 3; do echo "{\"item\":$number}"; done >>"$ASYNCTASK_SUBMIT"
        # Beside it, and renamed, as careful programs write.
        echo '{"page": 2}' >"$ASYNCTASK_MEMO.new"
        mv "$ASYNCTASK_MEMO.new" "$ASYNCTASK_MEMO"
    "#;

    fn once(job: bool, memo: bool) -> Once {
        let place = Membership {
            application: "app".to_owned(),
            job: "j".to_owned(),
            pipeline: "p".to_owned(),
            key: Some("k y".to_owned()),
            step: "s".to_owned(),
            queue: "q".to_owned(),
            each: "e".to_owned(),
            round: Uuid::nil(),
            feeder: Uuid::nil(),
            index: 3,
            wipe: false,
            inputs: JsonText::parse(r#"{"a":{"state":"done","result":7}}"#).ok(),
        };
        Once {
            id: "t".to_owned(),
            attempt: 1,
            max_attempts: 1,
            payload: Vec::new(),
            is_result_wanted: false,
            content_encoding: None,
            job: job.then(|| Box::new(place)),
            memo: memo.then(|| JsonText::parse("{\"page\": 1}").unwrap()),
        }
    }

    /// What the script writes, run as this user.
    fn written_by(options: &ExecOptions) -> Written {
        let once = once(true, true);
        let files = OnceFiles::of(&once, options).unwrap().unwrap();
        let folder = files.files.path(MEMO).parent().unwrap().to_owned();
        let mut command = Command::new("sh");
        command.args(["-c", SCRIPT]).envs(files.variables()).envs(place_in_job(once.job.as_ref().unwrap()));
        if let Some(user) = &options.user {
            command.uid(user.id).gid(user.group);
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let written = files.written();
        drop(files);
        assert!(!fs::exists(folder).unwrap());
        written
    }

    fn text(file: Option<WrittenFile>) -> String {
        String::from_utf8(file.unwrap().unwrap().text).unwrap()
    }

    fn is_as_the_script_wrote(written: Written) {
        assert_eq!(text(written.result), "j p k y s 3 \n");
        assert_eq!(text(written.submit), "{\"item\":1}\n{\"item\":2}\n{\"item\":3}\n");
        assert_eq!(text(written.memo), "{\"page\": 2}\n");
    }

    #[test]
    fn a_process_reads_and_writes_its_files() {
        is_as_the_script_wrote(written_by(&ExecOptions::default()));
    }

    #[test]
    fn the_files_belong_to_the_user_of_the_program() {
        if !nix::unistd::geteuid().is_root() {
            assert!(
                std::env::var_os("ASYNCTASK_REQUIRE_ALL").is_none(),
                "everything is required, and this is not root"
            );
            eprintln!("left out: it takes root to run a program as another user");
            return;
        }
        let nobody = User { name: "nobody".to_owned(), id: 65534, group: 65534, home: "/".into(), shell: None };
        is_as_the_script_wrote(written_by(&ExecOptions { user: Some(nobody), ..ExecOptions::default() }));
    }

    #[test]
    fn a_task_has_the_files_that_it_needs() {
        let names = |once: &Once| {
            OnceFiles::of(once, &ExecOptions::default()).unwrap().map(|files| files.names).unwrap_or_default()
        };
        assert!(names(&once(false, false)).is_empty());
        assert_eq!(names(&once(false, true)), [MEMO]);
        assert_eq!(names(&once(true, false)), [INPUTS, MEMO, RESULT, SUBMIT, SNOOZE]);
        assert_eq!(names(&Once { is_result_wanted: true, ..once(false, false) }), [RESULT]);
        let files = OnceFiles::of(&once(false, true), &ExecOptions::default()).unwrap().unwrap();
        let written = files.written();
        assert_eq!((text(written.memo), written.result, written.submit), ("{\"page\": 1}".to_owned(), None, None));
    }
}
