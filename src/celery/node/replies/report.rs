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

/// Celery's own report, as the application's workers tell it; where no application runs, one of its form.
pub(super) fn text(view: &View, facts: &Facts) -> String {
    if !view.report.is_empty() {
        return format!("\nworker -> asynctask:{}{}", env!("CARGO_PKG_VERSION"), view.report);
    }
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
