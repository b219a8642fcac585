//! A job's rows that were rejected, skipped or written with warnings, as JSON, or as CSV that can be corrected and
//! imported again.

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE, VARY};
use axum::response::IntoResponse;
use bytes::Bytes;
use futures_util::stream;
use shared::Error;
use shared::imports::{self, FAULT_COLUMNS, Outcome, ReportedRow, ReportedRows};
use shared::jobs::JobUse;
use shared::query::parameters::Parameters;
use shared::records::csv::CsvRows;
use shared::values::Field;
use utoipa::ToSchema;
use utoipa::openapi::ResponseBuilder;
use uuid::Uuid;

use crate::AppState;
use crate::extract::{Path, Query};
use crate::http::auth::Caller;
use crate::openapi::operations::Operation;
use crate::openapi::parameters::one_of;
use crate::openapi::{headers, parameters, schemas};
use crate::respond::Result;
use crate::respond::accept::wants_csv;

/// The rows and bytes that are read at once. No connection is held between two pages.
const PAGE: (usize, usize) = (500, 512 * 1024);

pub(super) fn operation() -> Operation {
    let json = schemas::content(schemas::array(&ReportedRow::name()));
    let example = "Name,Email,_line,_outcome,_faults\r\nBob,nobody,3,failed,email: must be an email address such as name@example.com\r\n";
    let csv = schemas::content_like(schemas::text(), example.into());
    let answer = ResponseBuilder::new()
        .description("The rows, in the order of the file.")
        .content("application/json", json)
        .content("text/csv", csv)
        .header_ref("Content-Disposition", headers::reference("Content-Disposition"));
    Operation::get("/jobs/{jobId}/errors", errors)
        .needs_scope_of_job(JobUse::Rows)
        .named("errors", "List the rejected rows of a job")
        .about("With `Accept: text/csv`, returns a file with the original columns and the reasons, which can be corrected and imported again.")
        .with([parameters::several(
            "outcome",
            "Returns rows with these outcomes; `failed` by default.",
            one_of(Outcome::WORDS.iter().copied()).build(),
        )])
        .answers(200, answer)
        .knows(schemas::of::<ReportedRow>())
}

/// The first page is read before the response begins, so that an unknown job is a 404.
async fn errors(
    State(state): State<AppState>,
    caller: Caller,
    Path(id): Path,
    Query(parameters): Query,
    headers: HeaderMap,
) -> Result {
    let outcomes = parse(&parameters)?;
    let rows = Rows { state, workspace_id: caller.workspace_id, job_id: id, outcomes };
    let first = rows.after(0).await?;
    Ok(if wants_csv(&headers) {
        let name = format!("attachment; filename=\"job-{id}-errors.csv\"");
        let heads = [(CONTENT_TYPE, "text/csv; charset=utf-8; header=present"), (VARY, "accept")];
        (heads, [(CONTENT_DISPOSITION, name)], rows.written(first, csv_page)).into_response()
    } else {
        ([(CONTENT_TYPE, "application/json"), (VARY, "accept")], rows.written(first, json_page)).into_response()
    })
}

/// Reads `outcome`, one or more outcomes separated by commas.
fn parse(parameters: &[(String, String)]) -> shared::Result<Vec<Outcome>> {
    let mut given = Parameters::new(parameters);
    let mut outcomes = Vec::new();
    for word in given.take_all("outcome").into_iter().flat_map(|text| text.split(',')) {
        match Outcome::from_text(word) {
            Ok(outcome) if !outcomes.contains(&outcome) => outcomes.push(outcome),
            Ok(_) => {}
            Err(fault) => given.refuse(fault.of("outcome")),
        }
    }
    given.finish()?;
    Ok(if outcomes.is_empty() { vec![Outcome::Failed] } else { outcomes })
}

/// The reported rows of a job.
struct Rows {
    state: AppState,
    workspace_id: Uuid,
    job_id: Uuid,
    outcomes: Vec<Outcome>,
}

/// Serializes a page. The first page also writes the head, and the last one the end.
type Write = fn(&ReportedRows, first: bool) -> shared::Result<Vec<u8>>;

/// The next page: the first one was read already, the others are read after the previous one was
/// sent.
enum Next {
    Page(ReportedRows),
    After(i64),
}

impl Rows {
    async fn after(&self, line: i64) -> shared::Result<ReportedRows> {
        let connection = &mut *self.state.connection().await?;
        imports::reported(connection, self.workspace_id, self.job_id, &self.outcomes, line, PAGE).await
    }

    fn written(self, first: ReportedRows, write: Write) -> Body {
        let start = Some((self, Next::Page(first)));
        Body::from_stream(stream::try_unfold(start, move |rest| async move {
            let Some((rows, page)) = rest else { return Ok::<_, Error>(None) };
            let (page, first) = match page {
                Next::Page(page) => (page, true),
                Next::After(line) => (rows.after(line).await?, false),
            };
            let piece = Bytes::from(write(&page, first)?);
            let last = page.rows.last().filter(|_| page.goes_on);
            Ok(Some((piece, last.map(|last| (rows, Next::After(last.line))))))
        }))
    }
}

fn json_page(ReportedRows { rows, goes_on, .. }: &ReportedRows, first: bool) -> shared::Result<Vec<u8>> {
    let mut json = if first { b"[".to_vec() } else { Vec::new() };
    for (i, row) in rows.iter().enumerate() {
        if i > 0 || !first {
            json.push(b',');
        }
        serde_json::to_writer(&mut json, row)?;
    }
    if !goes_on {
        json.push(b']');
    }
    Ok(json)
}

/// The original columns, then the fault. Surplus cells come last, because no column belongs to
/// them, which is why their row was rejected.
fn csv_page(ReportedRows { headers, rows, .. }: &ReportedRows, first: bool) -> shared::Result<Vec<u8>> {
    let mut csv = CsvRows::with_capacity(rows.len() * 256);
    if first {
        csv.row(headers.iter().map(String::as_str).chain(FAULT_COLUMNS));
    }
    for row in rows {
        let line = row.line.to_string();
        let (cells, beyond) = row.cells.split_at(row.cells.len().min(headers.len()));
        let missing = std::iter::repeat_n("", headers.len() - cells.len());
        let faults: Vec<String> =
            row.faults.iter().map(|fault| format!("{}: {}", fault.field, fault.message)).collect();
        let faults = faults.join("; ");
        let fault = [line.as_str(), row.outcome.as_str(), &faults];
        let cells = cells.iter().map(String::as_str).chain(missing).chain(fault);
        csv.file_row(cells.chain(beyond.iter().map(String::as_str)));
    }
    csv.into_bytes()
}
