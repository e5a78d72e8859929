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
        let all: [(bool, (&'static str, &[u8])); 4] = [
            (is_of_job, (INPUTS, inputs)),
            (is_of_job || once.memo.is_some(), (MEMO, memo)),
            (is_of_job || once.is_result_wanted, (RESULT, b"")),
            (is_of_job, (SUBMIT, b"")),
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
                _ => "ASYNCTASK_SUBMIT",
            };
            (variable.into(), self.files.path(name).into())
        })
    }

    /// What the process has written; its end is known.
    pub(super) fn written(&self) -> Written {
        let read = |name: &str, most: u64| -> Option<WrittenFile> {
            let read = self.names.contains(&name).then(|| self.files.read(name, most))?;
            Some(read.map(|(text, bytes)| FileText { text, bytes }).map_err(|error| error.to_string()))
        };
        Written { result: read(RESULT, SMALL), submit: read(SUBMIT, limits::FRAME as u64), memo: read(MEMO, SMALL) }
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
