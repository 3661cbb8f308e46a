//! What is kept beside the markers of a claim, where anything is.

use idem_runtime::store::Claim;
use serde_json::Value;
use sqlx::Postgres;
use sqlx::postgres::PgArguments;
use sqlx::query::QueryAs;
use sqlx::types::Json;

/// An array for each kind of thing; null, not an array of nulls, when no claim has one.
#[derive(Default)]
pub(crate) struct Beside<'a> {
    metadata: Option<Vec<Option<Json<&'a Value>>>>,
    fingerprints: Option<Vec<Option<Vec<u8>>>>,
    correlations: Option<Vec<Option<&'a str>>>,
    causations: Option<Vec<Option<&'a str>>>,
}

impl<'a> Beside<'a> {
    pub(crate) fn of(claims: &[Claim<'a>]) -> Self {
        Self {
            metadata: all(claims, |claim| claim.metadata.map(Json)),
            fingerprints: all(claims, |claim| claim.fingerprint.map(Vec::from)),
            correlations: all(claims, |claim| claim.correlation),
            causations: all(claims, |claim| claim.causation),
        }
    }

    pub(crate) fn is_none(&self) -> bool {
        let Self { metadata, fingerprints, correlations, causations } = self;
        metadata.is_none()
            && fingerprints.is_none()
            && correlations.is_none()
            && causations.is_none()
    }

    /// Four parameters.
    pub(crate) fn bind<O>(
        self,
        statement: QueryAs<'a, Postgres, O, PgArguments>,
    ) -> QueryAs<'a, Postgres, O, PgArguments> {
        statement
            .bind(self.metadata)
            .bind(self.fingerprints)
            .bind(self.correlations)
            .bind(self.causations)
    }
}

fn all<'a, T>(
    claims: &[Claim<'a>],
    part: impl Fn(&Claim<'a>) -> Option<T>,
) -> Option<Vec<Option<T>>> {
    let has_any = claims.iter().any(|claim| part(claim).is_some());
    has_any.then(|| claims.iter().map(part).collect())
}
