//! `asynctask completions` and `asynctask man`: what the command line's definitions say, for shells and readers.

use clap::Command;

use super::{args::Completions, output::print};
use crate::exit_code::{Code, Error};

pub(super) fn completions(mut command: Command, verb: &Completions) -> Result<Code, Error> {
    let name = name(&command);
    let mut script = Vec::new();
    clap_complete::generate(verb.shell, &mut command, name, &mut script);
    print(&String::from_utf8_lossy(&script))?;
    Ok(Code::Ok)
}

/// One page: the program, then a section for each command.
pub(super) fn man(command: Command) -> Result<Code, Error> {
    let name = name(&command);
    let mut command = command.name(name.clone()).disable_help_flag(true);
    command.build();
    let cannot = |error: std::io::Error| Error::new(Code::Internal, format!("cannot write the manual page: {error}"));
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut page).map_err(cannot)?;
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        let title = format!("{name} {}", verb.get_name());
        page.extend_from_slice(format!(".SH \"{}\"\n", title.to_uppercase()).as_bytes());
        let verb = clap_mangen::Man::new(verb.clone());
        verb.render_description_section(&mut page).map_err(cannot)?;
        verb.render_options_section(&mut page).map_err(cannot)?;
    }
    print(&String::from_utf8_lossy(&page))?;
    Ok(Code::Ok)
}

fn name(command: &Command) -> String {
    command.get_bin_name().unwrap_or(command.get_name()).to_owned()
}
