//! The application's settings, and the report for whoever asks what runs here.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::super::{facts::Facts, view::View};
use crate::celery::repr;

/// The application's own, as its workers tell them, without secrets; where no application runs, what the master has in their
/// place.
pub(super) fn conf(view: &View, facts: &Facts) -> Value {
    match &view.conf {
        conf @ Value::Object(_) => conf.clone(),
        _ => json!({ "broker_url": facts.broker.shown, "include": [] }),
    }
}

/// In the form of Celery's own report.
pub(super) fn text(view: &View, facts: &Facts) -> String {
    let conf = conf(view, facts);
    let results = match conf.get("result_backend") {
        Some(Value::String(address)) => address.as_str(),
        _ => "disabled",
    };
    let mut text = format!(
        "\nsoftware -> asynctask:{}\nplatform -> system:Linux\nsettings -> transport:amqp results:{results}\n\n",
        env!("CARGO_PKG_VERSION"),
    );
    for (name, value) in conf.as_object().into_iter().flatten() {
        // Writing into a String cannot fail.
        let _ = writeln!(text, "{name}: {}", repr::of(value));
    }
    text
}
