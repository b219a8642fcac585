//! What operators see and steer, across workspaces.

pub mod gauges;
