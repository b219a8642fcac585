//! What operators see.

use axum::extract::{Path as Segment, State};
use serde_json::json;
use shared::accounts::audit;
use shared::operations::actions::{self, ActionFilter};
use shared::operations::emails::EmailFilter;
use shared::operations::jobs::JobFilter;
use shared::operations::{
    database as all_database, emails as all_emails, jobs as all_jobs, pauses as all_pauses, queues as all_queues,
};
use shared::operations::{schedules as all_schedules, selection, workers as all_workers, workspaces as all_workspaces};
use shared::query::parameters::{Parameters, whole};

use super::data;
use crate::AppState;
use crate::extract::{NoQuery, Path, Query};
use crate::respond::Result;

pub(super) async fn jobs(State(state): State<AppState>, Query(pairs): Query) -> Result {
    let (filter, limit) = selection::list::<JobFilter>(&pairs)?;
    data(all_jobs::list(&mut *state.connection().await?, &filter, limit).await?)
}

pub(super) async fn count_jobs(State(state): State<AppState>, Query(pairs): Query) -> Result {
    let filter = selection::count::<JobFilter>(&pairs)?;
    data(json!({ "count": all_jobs::count(&mut *state.connection().await?, &filter).await? }))
}

pub(super) async fn job(State(state): State<AppState>, Path(id): Path, _: NoQuery) -> Result {
    data(all_jobs::show(&mut *state.connection().await?, id).await?)
}

pub(super) async fn emails(State(state): State<AppState>, Query(pairs): Query) -> Result {
    let (filter, limit) = selection::list::<EmailFilter>(&pairs)?;
    data(all_emails::list(&mut *state.connection().await?, &filter, limit).await?)
}

pub(super) async fn count_emails(State(state): State<AppState>, Query(pairs): Query) -> Result {
    let filter = selection::count::<EmailFilter>(&pairs)?;
    data(json!({ "count": all_emails::count(&mut *state.connection().await?, &filter).await? }))
}

pub(super) async fn email(State(state): State<AppState>, Path(id): Path, _: NoQuery) -> Result {
    data(all_emails::show(&mut *state.connection().await?, id).await?)
}

pub(super) async fn database(State(state): State<AppState>, _: NoQuery) -> Result {
    data(all_database::connections(&mut *state.connection().await?).await?)
}

pub(super) async fn queues(State(state): State<AppState>, _: NoQuery) -> Result {
    data(all_queues::list(&mut *state.connection().await?).await?)
}

pub(super) async fn kinds(State(state): State<AppState>, _: NoQuery) -> Result {
    data(all_queues::kinds(&mut *state.connection().await?).await?)
}

pub(super) async fn pauses(State(state): State<AppState>, _: NoQuery) -> Result {
    data(all_pauses::list(&mut *state.connection().await?).await?)
}

pub(super) async fn workers(State(state): State<AppState>, _: NoQuery) -> Result {
    data(all_workers::list(&mut *state.connection().await?).await?)
}

pub(super) async fn worker(State(state): State<AppState>, Path(id): Path, _: NoQuery) -> Result {
    data(all_workers::get(&mut *state.connection().await?, id).await?)
}

pub(super) async fn workspaces(State(state): State<AppState>, _: NoQuery) -> Result {
    data(all_workspaces::list(&mut *state.connection().await?).await?)
}

pub(super) async fn workspace(State(state): State<AppState>, Segment(name): Segment<String>, _: NoQuery) -> Result {
    data(all_workspaces::show(&mut *state.connection().await?, &name).await?)
}

pub(super) async fn schedules(State(state): State<AppState>, Query(pairs): Query) -> Result {
    let mut given = Parameters::new(&pairs);
    let workspace = given.take_as("workspace", |text| Ok(text.to_owned()));
    given.finish()?;
    data(all_schedules::list(&mut *state.connection().await?, workspace.as_deref()).await?)
}

pub(super) async fn schedule(State(state): State<AppState>, Path(id): Path, _: NoQuery) -> Result {
    data(all_schedules::show(&mut *state.connection().await?, id).await?)
}

/// The actions of operators or, with `workspace`, the audit log of a workspace.
pub(super) async fn actions(State(state): State<AppState>, Query(pairs): Query) -> Result {
    if !pairs.iter().any(|(name, _)| name == "workspace") {
        let (filter, limit) = selection::list::<ActionFilter>(&pairs)?;
        return data(actions::list(&mut *state.connection().await?, &filter, limit).await?);
    }
    let mut given = Parameters::new(&pairs);
    let workspace = given.take_as("workspace", |text| Ok(text.to_owned())).unwrap_or_default();
    let since = given.take("since");
    let limit = given.take_as("limit", |text| whole(text, 1..=1_000)).unwrap_or(50);
    given.finish()?;
    let connection = &mut *state.connection().await?;
    let workspace = all_workspaces::show(connection, &workspace).await?;
    data(audit::recent(connection, workspace.id, since, i64::from(limit)).await?)
}

pub(super) async fn action(State(state): State<AppState>, Path(id): Path, _: NoQuery) -> Result {
    data(actions::get(&mut *state.connection().await?, id).await?)
}
