//! The console over HTTP, as a browser without scripts sees it.

mod crawl;
mod emails;
mod hostile;
mod imports;
mod insight;
mod jobs;
mod records;
mod security;
mod settings;
mod sign_in;
pub mod support;
