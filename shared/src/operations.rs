//! What operators see and steer, across workspaces.

pub mod actions;
mod batches;
pub mod command;
pub mod database;
pub mod emails;
mod filter;
mod found;
pub mod gauges;
pub mod jobs;
pub mod moving;
pub mod operators;
pub mod pauses;
pub mod queues;
pub mod schedules;
pub mod selection;
pub mod sessions;
pub mod workers;
pub mod workspaces;
