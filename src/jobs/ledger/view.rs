//! What is shown of a job: the JSON of `jobs show` and `jobs list`.

use serde::{
    Serialize, Serializer,
    ser::{SerializeMap, SerializeStruct},
};
use uuid::Uuid;

use crate::{
    clock::Timestamp,
    jobs::{definition::Pipeline, record::JobState},
    json_text::JsonText,
    units,
};

/// A job, as it is shown. Its JSON is that of `jobs show`.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    /// The job's id.
    pub id: String,
    /// Its pipeline.
    pub pipeline: String,
    /// Its key.
    pub key: Option<String>,
    /// What it is.
    pub state: JobState,
    /// Nothing of it is begun.
    pub frozen: bool,
    /// Whether what it left was wiped.
    pub wiped: Wiped,
    /// The higher, the earlier it is admitted.
    pub priority: i32,
    /// Its steps, in the order of its definition.
    pub steps: Vec<StepView>,
    /// Tasks of all steps.
    pub tasks: Tasks,
    /// When it was made.
    pub made_at: Timestamp,
    /// When its first step began.
    pub began_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// When something of it was heard last: an end, news, an order.
    pub heard_at: Timestamp,
    /// Why it failed, or what keeps it from going on.
    pub error: Option<String>,
    /// Its payload.
    pub payload: JsonText,
    /// The definition that it began with.
    pub definition: Pipeline,
}

/// A step of a job, as it is shown.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StepView {
    /// Its name.
    #[serde(skip)]
    pub name: String,
    /// What it is.
    pub state: StepState,
    /// This begin of it.
    pub round: Option<Uuid>,
    /// Its tasks.
    pub tasks: Tasks,
    /// When it began.
    #[serde(serialize_with = "moment")]
    pub began_at: Option<Timestamp>,
    /// When it ended.
    #[serde(serialize_with = "moment")]
    pub ended_at: Option<Timestamp>,
    /// What its first task gave.
    pub result: Option<JsonText>,
    /// What its first task wants to know when it comes again.
    pub memo: Option<JsonText>,
    /// Why it failed, or the last error in it.
    pub error: Option<String>,
    /// The reason's word of that error.
    pub reason: Option<String>,
    /// The first of its tasks that failed.
    pub dead_letters: Vec<DeadTask>,
    /// Its first task failed, and comes again.
    pub retrying: Option<Retrying>,
    /// Its first task is put off.
    pub snoozed: Option<Snoozed>,
}

/// A task of a step that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeadTask {
    /// Id of the dead letter; none if it was removed.
    pub id: Option<String>,
    /// Its number among the tasks of who submitted it.
    pub index: u32,
    /// The reason's word.
    pub reason: String,
    /// One line.
    pub error: String,
}

/// An attempt failed, and another one is left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Retrying {
    /// One line.
    pub error: String,
    /// When it is due again.
    #[serde(serialize_with = "this_moment")]
    pub again_at: Timestamp,
}

/// Put off, with no attempt used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Snoozed {
    /// When it is due again.
    #[serde(serialize_with = "this_moment")]
    pub again_at: Timestamp,
}

/// Tasks, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tasks {
    /// That are done.
    pub done: u64,
    /// That are dead letters, or were removed.
    pub failed: u64,
    /// That there are, as far as is known.
    pub known: u64,
}

/// What a step of a job is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StepState {
    /// It has not begun.
    #[default]
    Planned,
    /// It has begun; no task of it has, as far as is known.
    Waiting,
    /// Tasks of it are worked.
    Running,
    /// All its tasks are done, or so many as must be.
    Done,
    /// Too many of its tasks failed.
    Failed,
    /// Its job was ended under it.
    Cancelled,
    /// Its job ended before it began.
    Skipped,
}

impl StepState {
    /// The word used in tables and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Skipped => "skipped",
        }
    }
}

/// Whether what a job left was wiped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, serde::Deserialize)]
pub enum Wiped {
    /// It was not.
    #[default]
    #[serde(rename = "no")]
    No,
    /// It is being wiped.
    #[serde(rename = "under way")]
    UnderWay,
    /// It was.
    #[serde(rename = "yes")]
    Yes,
    /// A task that wipes is a dead letter.
    #[serde(rename = "failed")]
    Failed,
}

impl Wiped {
    /// The word used in tables and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::UnderWay => "under way",
            Self::Yes => "yes",
            Self::Failed => "failed",
        }
    }
}

impl View {
    /// Its line in `jobs list --json`.
    #[must_use]
    pub fn line(&self) -> Line<'_> {
        Line(self)
    }

    /// `PIPELINE/KEY`, or the pipeline alone.
    #[must_use]
    pub fn place(&self) -> String {
        place(&self.pipeline, self.key.as_deref())
    }
}

/// `PIPELINE/KEY`, or the pipeline alone.
#[must_use]
pub fn place(pipeline: &str, key: Option<&str>) -> String {
    key.map_or_else(|| pipeline.to_owned(), |key| format!("{pipeline}/{key}"))
}

/// A job in a list: its steps are states alone.
pub struct Line<'a>(&'a View);

/// A job without what may be large or secret: payload, results, memos, definition.
pub(super) struct Summary<'a>(pub(super) &'a View);

struct States<'a>(&'a [StepView]);
struct Steps<'a>(&'a [StepView]);

impl Serialize for States<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for step in self.0 {
            map.serialize_entry(&step.name, &step.state)?;
        }
        map.end()
    }
}

impl Serialize for Steps<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for step in self.0 {
            map.serialize_entry(&step.name, step)?;
        }
        map.end()
    }
}

impl Serialize for Line<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("Line", FIELDS)?;
        fields::<S>(&mut object, self.0, &States(&self.0.steps))?;
        object.end()
    }
}

impl Serialize for Summary<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut steps = self.0.steps.clone();
        for step in &mut steps {
            (step.result, step.memo) = (None, None);
        }
        let mut object = serializer.serialize_struct("Summary", FIELDS)?;
        fields::<S>(&mut object, self.0, &Steps(&steps))?;
        object.end()
    }
}

impl Serialize for View {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("View", FIELDS + 2)?;
        fields::<S>(&mut object, self, &Steps(&self.steps))?;
        object.serialize_field("payload", &self.payload)?;
        object.serialize_field("definition", &self.definition)?;
        object.end()
    }
}

const FIELDS: usize = 12;

fn fields<S: Serializer>(object: &mut S::SerializeStruct, view: &View, steps: &impl Serialize) -> Result<(), S::Error> {
    object.serialize_field("id", &view.id)?;
    object.serialize_field("pipeline", &view.pipeline)?;
    object.serialize_field("key", &view.key)?;
    object.serialize_field("state", &view.state)?;
    object.serialize_field("frozen", &view.frozen)?;
    object.serialize_field("wiped", &view.wiped)?;
    object.serialize_field("priority", &view.priority)?;
    object.serialize_field("steps", steps)?;
    object.serialize_field("tasks", &view.tasks)?;
    object.serialize_field("began_at", &view.began_at.map(rfc3339))?;
    object.serialize_field("ended_at", &view.ended_at.map(rfc3339))?;
    object.serialize_field("error", &view.error)
}

// The signatures of these two are serde's.
#[allow(clippy::ref_option)]
fn moment<S: Serializer>(moment: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    moment.map(rfc3339).serialize(serializer)
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn this_moment<S: Serializer>(moment: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    rfc3339(*moment).serialize(serializer)
}

fn rfc3339(moment: Timestamp) -> String {
    units::rfc3339(moment.0)
}
