//! The wire format: a small part of Stripe's API, with Stripe's names.

use std::fmt;

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use idempotent_runtime::{Error, tower::NotBegun};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::FromRow;

use idempotent_examples::{chain, say};

/// The form of `POST /v1/charges`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewCharge {
    /// In the smallest unit of the currency.
    pub(crate) amount: i64,
    pub(crate) currency: String,
    /// A token of the card.
    pub(crate) source: String,
    pub(crate) description: Option<String>,
}

impl NewCharge {
    /// Checks what can be checked without the card network and the database.
    pub(crate) fn check(&self) -> Result<(), Refused> {
        if self.amount < 1 {
            return Err(Refused::Request("The amount has to be a positive integer.".to_owned()));
        }
        if self.currency.len() != 3 || !self.currency.bytes().all(|byte| byte.is_ascii_lowercase()) {
            return Err(Refused::Request("The currency has to be a code of three lower-case letters.".to_owned()));
        }
        let description = self.description.iter().map(|text| ("description", text));
        is_text([("source", &self.source)].into_iter().chain(description))
    }
}

/// Refuses U+0000, which PostgreSQL cannot hold. Refused only by the database, it would look like a failure of this service, and be
/// tried again, each time after the card network was asked.
fn is_text<'p>(parameters: impl IntoIterator<Item = (&'static str, &'p String)>) -> Result<(), Refused> {
    match parameters.into_iter().find(|(_, text)| text.contains('\0')) {
        Some((name, _)) => Err(Refused::Request(format!("The parameter {name} has a character that is no text."))),
        None => Ok(()),
    }
}

/// A charge that was made: the answer to the first request and to every repeat.
#[derive(Serialize, Deserialize, FromRow)]
pub(crate) struct Charge {
    pub(crate) id: String,
    pub(crate) amount: i64,
    pub(crate) currency: String,
    pub(crate) description: Option<String>,
    pub(crate) authorization_code: String,
    /// In seconds since 1970.
    pub(crate) created: i64,
}

impl Charge {
    pub(crate) fn object(&self) -> serde_json::Value {
        json!({
            "id": self.id,
            "object": "charge",
            "amount": self.amount,
            "currency": self.currency,
            "description": self.description,
            "authorization_code": self.authorization_code,
            "created": self.created,
            "paid": true,
            "status": "succeeded",
        })
    }
}

/// The query of `GET /v1/charges`: a page of charges, the latest first.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Page {
    pub(crate) limit: Option<u8>,
    pub(crate) starting_after: Option<String>,
}

impl Page {
    pub(crate) fn check(&self) -> Result<(), Refused> {
        is_text(self.starting_after.iter().map(|text| ("starting_after", text)))
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit.unwrap_or(10).clamp(1, 100).into()
    }
}

/// Makes a page of charges. One charge more than `limit` shows that there is a next page.
pub(crate) fn list(charges: &[Charge], limit: usize) -> Response {
    let data: Vec<_> = charges.iter().take(limit).map(Charge::object).collect();
    let has_more = charges.len() > limit;
    Json(json!({ "object": "list", "url": "/v1/charges", "has_more": has_more, "data": data })).into_response()
}

/// The reason why no charge was made.
#[derive(Debug)]
pub(crate) enum Refused {
    /// No account has this secret key.
    Unauthorized,
    /// The request is wrong.
    Request(String),
    /// The card network said no, and will say so again.
    Declined,
    /// The database failed or did not answer: no charge was entered, or the next try finds it.
    Database(sqlx::Error),
    /// The call failed without a run of the function.
    Idempotency(Error),
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self::Idempotency(error)
    }
}

impl From<sqlx::Error> for Refused {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

impl Refused {
    fn status(&self) -> StatusCode {
        match self {
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Declined => StatusCode::PAYMENT_REQUIRED,
            Self::Request(_) | Self::Idempotency(Error::Mismatch { .. }) => StatusCode::BAD_REQUEST,
            Self::Database(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Idempotency(error) => {
                StatusCode::from_u16(error.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
            }
        }
    }

    const fn kind(&self) -> &'static str {
        match self {
            Self::Unauthorized | Self::Request(_) => "invalid_request_error",
            Self::Declined => "card_error",
            Self::Idempotency(Error::Mismatch { .. }) => "idempotency_error",
            Self::Database(_) | Self::Idempotency(_) => "api_error",
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unauthorized => f.write_str("Use one of the secret keys of this example."),
            Self::Request(why) => f.write_str(why),
            Self::Declined => f.write_str("Your card was declined."),
            Self::Database(_) => f.write_str("The charge may not have been made. Try again."),
            Self::Idempotency(error) => write!(f, "{error}."),
        }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        if let Self::Database(error) = &self {
            say(chain(error));
        }
        let code = matches!(self, Self::Declined).then_some("card_declined");
        let error = json!({ "error": { "type": self.kind(), "code": code, "message": self.to_string() } });
        let mut response = (self.status(), Json(error)).into_response();
        // A decline is an answer, and is kept. Any other error frees the key, for a corrected request or another try.
        if !matches!(self, Self::Declined) {
            response.extensions_mut().insert(NotBegun);
        }
        response
    }
}
