//! The parts of `cargo dev`: the local stack, its console and sample data. What the tests of the other
//! packages need as well is in the package `testing`.

pub mod client;
pub mod console;
pub mod data;
pub mod demo;
pub mod sample;
pub mod stack;
pub mod tools;
