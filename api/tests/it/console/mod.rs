//! The console over HTTP, as a browser without scripts sees it.

mod crawl;
mod emails;
mod hostile;
mod records;
mod imports;
mod jobs;
mod security;
mod settings;
mod sign_in;
pub mod support;
