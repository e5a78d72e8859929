//! Frames of our own workers, written.

use super::super::{
    messages::PROTOCOL,
    values::{millis, push_json, push_number, push_one_line},
    wants,
};
use crate::{
    json_text::JsonText,
    level::Level,
    outcome::{FollowUp, Report, Target},
};

/// Appends a ready frame. `ahead`: tasks beyond those worked on; `properties`: those of messages are wanted.
pub fn ready(name: &str, concurrency: u32, ahead: u32, properties: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"ready\":{\"protocol\":");
    push_number(out, PROTOCOL.into());
    out.extend_from_slice(b",\"name\":");
    push_json(out, name);
    out.extend_from_slice(b",\"concurrency\":");
    push_number(out, concurrency.into());
    out.extend_from_slice(b",\"ahead\":");
    push_number(out, ahead.into());
    if properties {
        out.extend_from_slice(b",\"wants\":");
        push_json(out, &[wants::PROPERTIES]);
    }
    out.extend_from_slice(b"}}\n");
}

/// Appends the end of a task.
pub fn outcome(id: &str, outcome: &Report, out: &mut Vec<u8>) {
    match outcome {
        Report::Done { submit, given } => {
            open("done", id, out);
            if let Some(result) = given.as_ref().and_then(|given| given.result.as_deref()) {
                out.extend_from_slice(b",\"result\":");
                push_one_line(result, out);
            }
            if !submit.is_empty() {
                push_follow_ups(submit, out);
            }
        }
        Report::Error { error, detail, memo } => {
            open("error", id, out);
            push_text("error", error, out);
            push_text("detail", detail, out);
            push_memo(memo.as_ref(), out);
        }
        Report::Retry { error, delay, memo } => {
            open("retry", id, out);
            push_text("error", error, out);
            if let Some(delay) = delay {
                out.extend_from_slice(b",\"delay_ms\":");
                push_number(out, millis(*delay));
            }
            push_memo(memo.as_ref(), out);
        }
        Report::Snooze { delay, memo } => {
            open("snooze", id, out);
            out.extend_from_slice(b",\"delay_ms\":");
            push_number(out, millis(*delay));
            push_memo(memo.as_ref(), out);
        }
        Report::DeadLetter { error, detail, memo } => {
            open("failed", id, out);
            push_text("error", error, out);
            push_text("detail", detail, out);
            push_memo(memo.as_ref(), out);
        }
        Report::Malformed { error } => {
            open("malformed", id, out);
            push_text("error", error, out);
        }
    }
    out.extend_from_slice(b"}}\n");
}

fn push_follow_ups(submit: &[FollowUp], out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"submit\":[");
    for (position, follow_up) in submit.iter().enumerate() {
        out.extend_from_slice(if position == 0 { b"{\"" } else { b",{\"" });
        match &follow_up.target {
            Target::Queue(queue) => {
                out.extend_from_slice(b"queue\":");
                push_json(out, queue);
                out.extend_from_slice(b",\"payload\":");
            }
            Target::Item => out.extend_from_slice(b"item\":"),
            Target::More => out.extend_from_slice(b"more\":"),
            Target::Pipeline { name, id } => {
                out.extend_from_slice(b"pipeline\":");
                push_json(out, name);
                if let Some(id) = id {
                    out.extend_from_slice(b",\"id\":");
                    push_json(out, id);
                }
                out.extend_from_slice(b",\"payload\":");
            }
        }
        push_one_line(&follow_up.payload, out);
        if !follow_up.delay.is_zero() {
            out.extend_from_slice(b",\"delay_ms\":");
            push_number(out, millis(follow_up.delay));
        }
        out.push(b'}');
    }
    out.push(b']');
}

fn push_memo(memo: Option<&JsonText>, out: &mut Vec<u8>) {
    if let Some(memo) = memo {
        out.extend_from_slice(b",\"memo\":");
        out.extend_from_slice(memo.as_str().as_bytes());
    }
}

/// Appends an accept frame.
pub fn accept(id: &str, out: &mut Vec<u8>) {
    open("accept", id, out);
    out.extend_from_slice(b"}}\n");
}

/// Appends a progress frame.
pub fn progress(id: &str, percent: Option<f64>, note: &str, out: &mut Vec<u8>) {
    open("progress", id, out);
    if let Some(percent) = percent.filter(|percent| percent.is_finite()) {
        out.extend_from_slice(b",\"percent\":");
        push_json(out, &percent);
    }
    push_text("note", note, out);
    out.extend_from_slice(b"}}\n");
}

/// Appends a log frame.
pub fn log(level: Level, message: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"log\":{\"level\":");
    push_json(out, level.as_str());
    push_text("message", message, out);
    out.extend_from_slice(b"}}\n");
}

/// Appends a bye frame.
pub fn bye(out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"bye\":{}}\n");
}

/// Appends a pong frame.
pub fn pong(n: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"pong\":{\"n\":");
    push_number(out, n);
    out.extend_from_slice(b"}}\n");
}

/// Appends a returned frame.
pub fn returned(ids: &[String], out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"returned\":{\"ids\":");
    push_json(out, ids);
    out.extend_from_slice(b"}}\n");
}

fn open(name: &str, id: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":{\"id\":");
    push_json(out, id);
}

/// Appends `,"key":"text"`, nothing for an empty text.
fn push_text(key: &str, text: &str, out: &mut Vec<u8>) {
    if !text.is_empty() {
        out.extend_from_slice(b",\"");
        out.extend_from_slice(key.as_bytes());
        out.extend_from_slice(b"\":");
        push_json(out, text);
    }
}
