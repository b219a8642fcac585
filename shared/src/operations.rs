//! What operators see and steer, across workspaces.

pub mod gauges;
pub mod pauses;
pub mod workers;
