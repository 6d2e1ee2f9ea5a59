//! How many requests a node takes over time, of each flow and of the tenant.
//!
//! Owns a bucket each, in this node's memory: a cluster of three takes three times as much in all, and a
//! node that starts begins with full buckets. A shared count would cost each request a commit of its own.
//! Must never count a request that is refused for another reason.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tidemill_types::{FlowId, flow::WebhookRateLimit, limits::WEBHOOK_RATES_MAX};
use tokio::time::Instant;

use super::answer::Refusal;
use crate::config::Rate;

/// When nothing is said.
const PER_DEFAULT: Duration = Duration::from_secs(1);

/// The buckets of a node.
#[derive(Default)]
pub(super) struct Rates {
    buckets: Mutex<Buckets>,
}

#[derive(Default)]
struct Buckets {
    /// There is one tenant as long as nothing names another.
    tenant: Option<Bucket>,
    flows: HashMap<FlowId, Bucket>,
}

/// A bucket, by the time at which it is full again: that is all there is to know of it.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    full_at: Instant,
}

impl Bucket {
    /// Takes one out, or says when there is one again.
    fn take(self, rate: Rate, now: Instant) -> Result<Self, Duration> {
        let each = rate.per / rate.requests.max(1);
        let full_at = self.full_at.max(now) + each;
        let most = each * rate.burst.max(1);
        let missing = full_at.saturating_duration_since(now);
        match missing.checked_sub(most) {
            None | Some(Duration::ZERO) => Ok(Self { full_at }),
            Some(wait) => Err(wait),
        }
    }
}

/// The rate that a flow asks for.
pub(super) fn rate_of(limit: &WebhookRateLimit) -> Rate {
    Rate {
        requests: limit.requests,
        per: limit
            .per
            .map_or(PER_DEFAULT, |per| Duration::from_millis(per.ms)),
        burst: limit.burst.unwrap_or(limit.requests),
    }
}

/// The rates that hold for a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowed {
    pub flow: Option<Rate>,
    pub tenant: Option<Rate>,
}

impl Rates {
    fn lock(&self) -> MutexGuard<'_, Buckets> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a request would be taken now, so that its body need not be read in vain.
    pub fn look(&self, flow: FlowId, allowed: Allowed, now: Instant) -> Result<(), Refusal> {
        self.lock().next(flow, allowed, now).map(|_| ())
    }

    /// Takes a request.
    pub fn take(&self, flow: FlowId, allowed: Allowed, now: Instant) -> Result<(), Refusal> {
        let mut buckets = self.lock();
        let (of_flow, of_tenant) = buckets.next(flow, allowed, now)?;
        buckets.tenant = of_tenant;
        let Some(bucket) = of_flow else {
            return Ok(());
        };
        if buckets.flows.len() >= WEBHOOK_RATES_MAX && !buckets.flows.contains_key(&flow) {
            // A bucket that is full is as good as none.
            buckets.flows.retain(|_, bucket| bucket.full_at > now);
            if buckets.flows.len() >= WEBHOOK_RATES_MAX {
                return Err(Refusal::shed(
                    "flows",
                    "the node takes requests of too many flows with a limit: try again",
                ));
            }
        }
        buckets.flows.insert(flow, bucket);
        Ok(())
    }
}

impl Buckets {
    /// The buckets without this request's share.
    fn next(
        &self,
        flow: FlowId,
        allowed: Allowed,
        now: Instant,
    ) -> Result<(Option<Bucket>, Option<Bucket>), Refusal> {
        let full = Bucket { full_at: now };
        let take = |bucket: Option<Bucket>, rate: Option<Rate>| {
            rate.map(|rate| bucket.unwrap_or(full).take(rate, now))
                .transpose()
        };
        let of_flow = take(self.flows.get(&flow).copied(), allowed.flow).map_err(|wait| {
            Refusal::shed("flow_rate", "the flow's rate limit is reached: try again").after(wait)
        })?;
        let of_tenant = take(self.tenant, allowed.tenant).map_err(|wait| {
            Refusal::shed(
                "tenant_rate",
                "the tenant's rate limit is reached: try again",
            )
            .after(wait)
        })?;
        Ok((of_flow, of_tenant))
    }
}

#[cfg(test)]
mod tests {
    use tidemill_types::PartitionId;

    use super::*;

    fn flow(number: u64) -> FlowId {
        FlowId::new(0, PartitionId(1), number)
    }

    fn rate(requests: u32, seconds: u64, burst: u32) -> Option<Rate> {
        Some(Rate {
            requests,
            per: Duration::from_secs(seconds),
            burst,
        })
    }

    fn retry_after(refused: Result<(), Refusal>) -> String {
        let response = refused.expect_err("refused").into_response();
        assert_eq!(response.status(), 429);
        let header = &response.headers()["retry-after"];
        header.to_str().expect("text").to_owned()
    }

    #[test]
    fn a_burst_then_an_even_flow() {
        let rates = Rates::default();
        let allowed = Allowed {
            flow: rate(10, 10, 3),
            tenant: None,
        };
        let begun = Instant::now();
        for _ in 0..3 {
            rates.look(flow(1), allowed, begun).expect("room");
            rates.take(flow(1), allowed, begun).expect("of the burst");
        }
        assert_eq!(retry_after(rates.look(flow(1), allowed, begun)), "1");
        assert_eq!(retry_after(rates.take(flow(1), allowed, begun)), "1");
        rates
            .take(flow(2), allowed, begun)
            .expect("another flow has its own");
        let mut taken = 0;
        for tenth in 0..100 {
            let now = begun + Duration::from_millis(100 * tenth);
            taken += usize::from(rates.take(flow(1), allowed, now).is_ok());
        }
        assert_eq!(taken, 9, "one a second");
        // An hour later the bucket is full, and not fuller.
        let later = begun + Duration::from_secs(3_600);
        let taken = (0..10).filter(|_| rates.take(flow(1), allowed, later).is_ok());
        assert_eq!(taken.count(), 3);
    }

    #[test]
    fn the_tenants_rate_is_of_all_flows_and_loses_nothing_to_refused_requests() {
        let rates = Rates::default();
        let allowed = Allowed {
            flow: rate(1, 60, 1),
            tenant: rate(2, 60, 2),
        };
        let now = Instant::now();
        rates.take(flow(1), allowed, now).expect("room");
        for _ in 0..10 {
            assert_eq!(retry_after(rates.take(flow(1), allowed, now)), "60");
        }
        rates
            .take(flow(2), allowed, now)
            .expect("the refused have cost nothing");
        assert_eq!(retry_after(rates.take(flow(3), allowed, now)), "30");
        let none = Allowed {
            flow: None,
            tenant: None,
        };
        assert!((0..10_000).all(|_| rates.take(flow(4), none, now).is_ok()));
    }

    #[test]
    fn so_many_flows_are_known() {
        let rates = Rates::default();
        let allowed = Allowed {
            flow: rate(1, 60, 1),
            tenant: None,
        };
        let now = Instant::now();
        for number in 0..WEBHOOK_RATES_MAX {
            rates.take(flow(number as u64), allowed, now).expect("room");
        }
        let other = flow(u64::MAX);
        assert!(rates.take(other, allowed, now).is_err());
        let later = now + Duration::from_secs(61);
        rates
            .take(other, allowed, later)
            .expect("the full are forgotten");
        assert_eq!(rates.lock().flows.len(), 1);
    }
}
