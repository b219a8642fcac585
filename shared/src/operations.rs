//! What operators see and steer, across workspaces.

pub mod pauses;
pub mod workers;
