//! What is shown of dead letters, and what can be said of them: the same for the command line and the page.
//!
//! Nothing here asks a transport: it is said what a visitor of a walk does, or what was found is put into words.

pub(crate) mod condition;
pub(crate) mod edit;
pub(crate) mod letter;
pub(crate) mod rate;
