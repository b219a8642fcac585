//! The console over HTTP, as a browser without scripts sees it.

mod crawl;
mod emails;
mod hostile;
mod imports;
mod jobs;
mod security;
mod sign_in;
pub mod support;
