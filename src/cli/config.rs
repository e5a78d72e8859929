//! `asynctask config`: what the settings mean.

use std::io::IsTerminal;

use super::{
    args::{Config, Global},
    output::{escape_control, print},
    settings::{load, load_to_fire, sources},
};
use crate::{
    exit_code::{Code, Error},
    plural::counted,
    worker::registry::Registry,
};

pub(super) fn run(registry: &Registry, global: &Global, verb: &Config) -> Result<Code, Error> {
    match verb {
        Config::Show { json } => {
            let config = load(registry, global)?;
            let text = if *json { config.to_json_text().map(|text| text + "\n") } else { config.to_yaml() };
            let text =
                text.map_err(|error| Error::new(Code::Internal, format!("cannot write the settings: {error}")))?;
            // For people: fed back from a file, the settings come from that one.
            if !*json && std::io::stdout().is_terminal() && !config.files.is_empty() {
                let files: Vec<String> = config.files.iter().map(|path| path.display().to_string()).collect();
                print(&format!("# {}\n", escape_control(&files.join(", ")).replace('\n', " ")))?;
            }
            print(&text)?;
        }
        Config::Check { json: false } => {
            let config = load_to_fire(registry, global)?;
            let (queues, schedules) = (config.queues.len(), config.schedules.len());
            let (queues, schedules) = (counted(queues, "queue"), counted(schedules, "schedule"));
            let mut found = format!("{queues}, {schedules}");
            if !config.pipelines.is_empty() {
                found = format!("{found}, {}", counted(config.pipelines.len(), "pipeline"));
            }
            print(&format!("the configuration is right: {found}\n"))?;
        }
        Config::Check { json: true } => match crate::config::load_to_fire(&sources(registry, global)) {
            Ok(_) => print("[]\n")?,
            Err(problems) => {
                print(&format!("{}\n", problems.to_json()))?;
                return Ok(Code::Config);
            }
        },
    }
    Ok(Code::Ok)
}
