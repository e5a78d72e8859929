//! What can be typed for the page. Definitions only.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Args, Debug)]
pub(super) struct Dashboard {
    /// Where to listen: an address with its port, or unix:PATH [default: what the settings say, 127.0.0.1:5555]
    #[arg(long, value_name = "ADDRESS")]
    pub(super) listen: Option<String>,
    /// The master's control socket
    #[arg(long, value_name = "PATH", global = true)]
    pub(super) socket: Option<PathBuf>,
    /// Kept by a master: the key comes by standard input, whose end is the page's.
    #[arg(long, hide = true)]
    pub(super) kept: bool,
    #[command(subcommand)]
    pub(super) verb: Option<Verb>,
}

#[derive(Subcommand, Debug)]
pub(super) enum Verb {
    /// Ask for a password, twice, and print its hash for the settings
    #[command(
        after_help = "Example:\n  asynctask dashboard password\n  pass show dashboard | asynctask dashboard password"
    )]
    Password,
    /// Print the link that opens the page which the running master keeps
    #[command(
        after_help = "Example:\n  asynctask dashboard link\n\nWhoever has the link can do what the page can do. Open it by hand: what stands in a \
                      command line can be read by all users of this machine."
    )]
    Link,
}
