//! Reading about customers, and writing down what was done about them. Secret keys only.
//!
//! Whatever is asked, it is asked within the key's account: a customer of another account answers exactly as one that never
//! was. No answer may be kept by anybody in between.

mod risk; // a customer's risk
mod list; // customers by risk
mod history; // a customer's scores
mod events; // a customer's events
mod alerts; // what was announced, or kept back
mod interventions; // what people did about it
mod report; // and which of it worked
mod overview; // how the account stands, and stood
mod export; // everything that is known of a customer

use axum::{
    extract::{FromRequestParts, Path},
    http::{HeaderValue, StatusCode, header, request::Parts},
    response::Response,
};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    access::{Grant, Reader},
    error::ApiError,
    state::Bridge,
};
use crate::{
    engine::alert::RiskReport,
    event::{
        ids::{AccountId, CustomerId},
        subject::{self, Token},
    },
    pipeline::risk::RiskError,
};

/// The routes that read.
pub fn routes() -> OpenApiRouter<Bridge> {
    OpenApiRouter::new()
        .routes(routes!(list::customers))
        .routes(routes!(risk::risk))
        .routes(routes!(history::history))
        .routes(routes!(events::events))
        .routes(routes!(alerts::alerts))
        .routes(routes!(interventions::of_customer, interventions::open))
        .routes(routes!(interventions::of_account))
        .routes(routes!(interventions::change))
        .routes(routes!(report::report))
        .routes(routes!(overview::overview))
        .routes(routes!(export::export))
        .layer(axum::middleware::map_response(not_stored))
}

async fn not_stored(mut response: Response) -> Response {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The customer that a path names.
#[derive(Clone, Debug)]
struct Named {
    customer: CustomerId,
    token: Token,
}

/// Who asks, and about which customer.
#[derive(Clone, Debug)]
struct Asked(Grant, Named);

impl FromRequestParts<Bridge> for Asked {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, bridge: &Bridge) -> Result<Self, ApiError> {
        let Reader(grant) = Reader::from_request_parts(parts, bridge).await?;
        let Path(id) = Path::<String>::from_request_parts(parts, bridge).await.map_err(|_| {
            let detail = "the customer's id in the path is not UTF-8: percent-encode its bytes";
            ApiError::new(StatusCode::BAD_REQUEST, "invalid_customer_id", detail)
        })?;
        // No customer has an id that is too long.
        let customer = CustomerId::parse(&id).map_err(|_| unknown_customer())?;
        let named = Named { token: subject::encode(&customer), customer };
        // Who is being erased is not told of any more, although something may still be there.
        if bridge.store.is_suppressed(grant.account(), &[named.token.as_str()], &[]).await? {
            return Err(unknown_customer());
        }
        Ok(Self(grant, named))
    }
}

/// One answer for customers of other accounts, for those that were erased, and for those that never were.
fn unknown_customer() -> ApiError {
    let detail = "no customer of this id has been seen in this account";
    ApiError::new(StatusCode::NOT_FOUND, "unknown_customer", detail)
}

impl From<RiskError> for ApiError {
    fn from(error: RiskError) -> Self {
        match error {
            RiskError::UnknownCustomer => unknown_customer(),
            RiskError::TooEarly { newest } => {
                let detail = format!(
                    "the query's parameters: as_of: it lies before the customer's newest event, which happened at {newest}; \
                     for scores of the past see the history"
                );
                Self::new(StatusCode::CONFLICT, "as_of_too_early", detail)
            }
            RiskError::Store(error) => error.into(),
            RiskError::Snapshot(error) => {
                Self::unavailable("what is stored of the customer cannot be read now", 30).because(error)
            }
        }
    }
}

impl Bridge {
    /// A customer's risk now.
    async fn risk_now(&self, account: &AccountId, named: &Named) -> Result<RiskReport, ApiError> {
        Ok(self.desk.risk(account, named.token.as_str(), None).await?)
    }

    /// The rows about a customer; where there are none, the customer must be known by its state at least.
    async fn known<Row>(&self, account: &AccountId, named: &Named, rows: Vec<Row>) -> Result<Vec<Row>, ApiError> {
        if rows.is_empty() {
            self.risk_now(account, named).await?;
        }
        Ok(rows)
    }
}
