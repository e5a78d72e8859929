//! `asynctask config`: what the settings mean.

use super::{
    args::{Config, Global},
    load, print, sources,
};
use crate::{
    app::App,
    error::{Code, Error},
};

pub(super) fn run(app: &App, global: &Global, verb: &Config) -> Result<Code, Error> {
    match verb {
        Config::Show { json } => {
            let settings = load(app, global)?.to_json();
            if *json {
                print(&format!("{settings}\n"))?;
            } else {
                let text = serde_yaml::to_string(&settings)
                    .map_err(|error| Error::new(Code::Internal, format!("cannot write the settings: {error}")))?;
                print(&text)?;
            }
        }
        Config::Check { json: false } => {
            let config = load(app, global)?;
            let (queues, schedules) = (config.queues.len(), config.schedules.len());
            print(&format!("the configuration is right: {queues} queues, {schedules} schedules\n"))?;
        }
        Config::Check { json: true } => match crate::config::load(&sources(app, global)?) {
            Ok(_) => print("[]\n")?,
            Err(problems) => {
                print(&format!("{}\n", problems.to_json()))?;
                return Ok(Code::Config);
            }
        },
    }
    Ok(Code::Ok)
}
