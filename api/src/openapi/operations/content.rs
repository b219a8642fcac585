//! Descriptions of what operations take and return.

use shared::insight::reports::Report;
use shared::query::Spec;
use shared::queue::Payload;
use utoipa::ToSchema;
use utoipa::openapi::schema::Schema;
use utoipa::openapi::{RefOr, Required, ResponseBuilder};

use super::{CSV, HTML, JSON, Operation};
use crate::openapi::{headers, jobs, parameters, schemas};

impl Operation {
    /// Takes a JSON body.
    pub fn takes(mut self, name: String, schema: RefOr<Schema>) -> Self {
        self.body = Some(schemas::body(JSON, schemas::reference(&name)));
        self.knows([(name, schema)]).problems([415])
    }

    /// Takes an optional JSON body.
    pub fn may_take(self, name: &str, schema: RefOr<Schema>) -> Self {
        let mut described = self.takes(name.to_owned(), schema);
        if let Some(body) = &mut described.body {
            body.required = Some(Required::False);
        }
        described
    }

    /// Takes a form with a file.
    pub fn takes_file(mut self) -> Self {
        let name = "FileUpload";
        self.body = Some(schemas::body("multipart/form-data", schemas::reference(name)));
        self.knows([(name.to_owned(), schemas::file())]).problems([415])
    }

    /// Takes the bytes of a file.
    pub fn takes_bytes(mut self) -> Self {
        self.body = Some(schemas::bytes(false));
        self.problems([400, 415])
    }

    /// Takes the bytes of a file, a form with it, or nothing.
    pub fn takes_file_or_bytes(mut self) -> Self {
        let described = self.takes_file();
        self = described;
        self.body = Some(schemas::bytes(true));
        self
    }

    /// Returns a bare array that has no pages.
    pub fn returns_list<T: ToSchema>(self, description: &'static str) -> Self {
        let content = schemas::content(schemas::array(&T::name()));
        let response = ResponseBuilder::new().description(description).content(JSON, content);
        self.answers(200, response).knows(schemas::of::<T>())
    }

    /// Returns no content, and the offset of an upload.
    pub fn returns_offset(self, status: u16, description: &'static str) -> Self {
        let response = ResponseBuilder::new().description(description);
        self.answers(status, response.header_ref("Upload-Offset", headers::reference("Upload-Offset")))
    }

    /// Returns a list, with parameters for filters, search, order and pages.
    pub fn lists<T: ToSchema>(self, spec: &Spec) -> Self {
        let parameters = parameters::of_list(spec).into_iter().chain(parameters::of_page());
        let response = ResponseBuilder::new()
            .description(
                "The whole list, newest first, or one page of it. With the query parameter `fields=id,email`, each item has \
                 only these fields; it is meant for callers that do not need the types of whole records.",
            )
            .content(JSON, schemas::content(schemas::array(&T::name())))
            .header_ref("Link", headers::reference("Link"))
            .header_ref("X-Next-Cursor", headers::reference("X-Next-Cursor"))
            .header_ref("X-Total-Count", headers::reference("X-Total-Count"));
        let described = Self { is_list: true, ..self };
        described.with(parameters).answers(200, response).knows(schemas::of::<T>()).about_usually(
            "Returns all that match the filters, newest first, as a stream. With `limit`, returns one page; \
             `X-Next-Cursor` and `Link` lead to the next one. Without either header there are no more.",
        )
    }

    /// Returns JSON.
    pub fn returns<T: ToSchema>(self, status: u16, description: &'static str) -> Self {
        let content = schemas::content(schemas::reference(&T::name()));
        let response = ResponseBuilder::new().description(description).content(JSON, content);
        self.answers(status, response).knows(schemas::of::<T>())
    }

    /// Returns 201 with JSON and the `Location` of a new record.
    pub fn returns_created<T: ToSchema>(self, description: &'static str) -> Self {
        let response = ResponseBuilder::new()
            .description(description)
            .content(JSON, schemas::content(schemas::reference(&T::name())))
            .header_ref("Location", headers::reference("Location"));
        self.answers(201, response).knows(schemas::of::<T>())
    }

    /// Returns a report, or one of its tables as CSV.
    pub fn reports<R: Report>(self) -> Self {
        let described = self.with(parameters::of_report(&R::OFFERS, R::TABLES));
        let about = "The report, at most a minute old.";
        if !R::OFFERS.period {
            return described.returns_or_csv::<R::Figures>(about);
        }
        let name = format!("{}Response", R::Figures::name());
        let schema = schemas::with_comparison(&R::Figures::name());
        described.answers(200, json_or_csv(about, &name)).knows(schemas::of::<R::Figures>()).knows([(name, schema)])
    }

    /// Returns JSON, or a table of it as CSV.
    pub fn returns_or_csv<T: ToSchema>(self, about: &'static str) -> Self {
        self.answers(200, json_or_csv(about, &T::name())).knows(schemas::of::<T>())
    }

    /// Returns text of a media type.
    pub fn returns_text(self, description: &'static str, kind: &'static str) -> Self {
        let response = ResponseBuilder::new().description(description);
        self.answers(200, response.content(kind, schemas::content(schemas::text())))
    }

    /// Takes a form as browsers send it.
    pub fn takes_form(mut self, schema: impl Into<RefOr<Schema>>) -> Self {
        self.body = Some(schemas::body("application/x-www-form-urlencoded", schema.into()));
        self
    }

    /// Takes a form in either of its encodings.
    pub fn takes_any_form(mut self, schema: impl Into<RefOr<Schema>>) -> Self {
        self.body = Some(schemas::forms(schema.into()));
        self
    }

    /// Returns an HTML page.
    pub fn shows(self, description: &'static str) -> Self {
        let response = ResponseBuilder::new().description(description);
        self.answers(200, response.content(HTML, schemas::content(schemas::text())))
    }

    /// Returns 202 with a job of this kind.
    pub fn accepts<P: Payload>(self) -> Self {
        self.accepts_job(&jobs::name_of::<P>())
    }

    /// Returns 202 with a job of any kind.
    pub fn accepts_any(self) -> Self {
        self.accepts_job(jobs::ANY)
    }

    fn accepts_job(self, schema: &str) -> Self {
        let response = |about: &str| {
            ResponseBuilder::new()
                .description(about)
                .content(JSON, schemas::content(schemas::reference(schema)))
                .header_ref("Location", headers::reference("Location"))
                .header_ref("Preference-Applied", headers::reference("Preference-Applied"))
        };
        let described = self
            .with([parameters::prefer()])
            .with(parameters::of_callback())
            .answers(202, response("Accepted. The job runs even if processes or machines fail."))
            .answers(200, response("With `Prefer: wait=N`, the job, which has ended."))
            .knows(jobs::schemas())
            .shows_job();
        Self { starts_job: true, ..described }
    }

    /// Adds a header to a response.
    pub fn returns_header(mut self, status: u16, name: &str) -> Self {
        for (_, response) in self.answers.iter_mut().filter(|(of, _)| *of == status) {
            response.headers.insert(name.to_owned(), RefOr::Ref(headers::reference(name)));
        }
        self
    }
}

/// A response in JSON or CSV.
fn json_or_csv(about: &'static str, schema: &str) -> ResponseBuilder {
    ResponseBuilder::new()
        .description(about)
        .content(JSON, schemas::content(schemas::reference(schema)))
        .content(CSV, schemas::content(schemas::text()))
        .header_ref("Content-Disposition", headers::reference("Content-Disposition"))
}
