//! The console over HTTP, as a browser without scripts sees it.

mod crawl;
mod hostile;
mod insight;
mod security;
mod sign_in;
pub mod support;
