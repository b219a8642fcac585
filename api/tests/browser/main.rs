//! Stories of people who use the pages, in a real Chromium with the real programs. Without Chromium they are skipped.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod emails;
mod feedback;
mod imports;
mod insight;
mod jobs;
mod operations;
mod records;
mod settings;
mod sign_in;
mod support;
