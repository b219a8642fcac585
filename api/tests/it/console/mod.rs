//! The console over HTTP, as a browser without scripts sees it.

mod crawl;
mod hostile;
mod records;
mod security;
mod settings;
mod sign_in;
pub mod support;
