//! A small registry of atomics, and its text for Prometheus.
//!
//! Our own rather than a crate: what the hot path needs is one relaxed addition, what a scrape needs
//! is one page of formatting, and every name stands with its help in one place (`metrics.rs`).

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// Most label combinations of one metric; later ones share one that says so.
const SERIES_MAX: usize = 4_096;

/// Only ever grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// The sum so far.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Sets the value.
    pub fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Relaxed);
    }

    /// Adds to the value.
    pub fn add(&self, value: f64) {
        // Never fails: the closure always gives a value.
        let _ = self.0.fetch_update(Relaxed, Relaxed, |bits| {
            Some((f64::from_bits(bits) + value).to_bits())
        });
    }

    /// The value.
    #[must_use]
    pub fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Relaxed))
    }
}

/// Counts values by their size.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [f64],
    /// One more than the bounds.
    buckets: Box<[AtomicU64]>,
    /// Bits of an `f64`.
    sum: AtomicU64,
}

impl Histogram {
    fn new(bounds: &'static [f64]) -> Self {
        Self {
            bounds,
            buckets: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0),
        }
    }

    /// Counts one value.
    pub fn observe(&self, value: f64) {
        self.observe_many(value, 1);
    }

    /// Counts one value so many times.
    #[allow(clippy::cast_precision_loss)] // of counts far below 2^53
    pub fn observe_many(&self, value: f64, times: u64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        self.buckets[bucket].fetch_add(times, Relaxed);
        // Never fails: the closure always gives a value.
        let _ = self.sum.fetch_update(Relaxed, Relaxed, |bits| {
            Some((f64::from_bits(bits) + value * times as f64).to_bits())
        });
    }

    /// How many values were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.load(Relaxed)).sum()
    }
}

/// One metric with labels: a series for each combination of their values.
#[derive(Debug)]
pub struct Family<M> {
    series: RwLock<BTreeMap<Vec<String>, Arc<M>>>,
    labels: usize,
    make: fn(&'static [f64]) -> M,
    bounds: &'static [f64],
}

impl<M> Family<M> {
    /// The series with these label values, in the order of the labels. Keep it where it is hot.
    ///
    /// # Panics
    /// When the number of values is not that of the labels.
    #[must_use]
    pub fn with(&self, values: &[&str]) -> Arc<M> {
        assert_eq!(values.len(), self.labels, "a value for each label");
        {
            let series = self.series.read().unwrap_or_else(PoisonError::into_inner);
            // A linear look over few series beats allocating the key for a lookup.
            if let Some((_, found)) = series
                .iter()
                .find(|(key, _)| key.iter().map(String::as_str).eq(values.iter().copied()))
            {
                return Arc::clone(found);
            }
        }
        let mut series = self.series.write().unwrap_or_else(PoisonError::into_inner);
        let key = if series.len() < SERIES_MAX {
            values.iter().map(ToString::to_string).collect()
        } else {
            vec!["(others)".to_owned(); self.labels]
        };
        let made = series
            .entry(key)
            .or_insert_with(|| Arc::new((self.make)(self.bounds)));
        Arc::clone(made)
    }
}

trait Render: Send + Sync {
    fn render(&self, name: &str, labels: &[&'static str], out: &mut String);
}

fn write_labels(labels: &[&'static str], values: &[String], extra: Option<&str>, out: &mut String) {
    let mut pairs: Vec<String> = labels
        .iter()
        .zip(values)
        .map(|(label, value)| {
            let value = value
                .replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('\n', "\\n");
            format!("{label}=\"{value}\"")
        })
        .collect();
    pairs.extend(extra.map(|le| format!("le=\"{le}\"")));
    if !pairs.is_empty() {
        let _ = write!(out, "{{{}}}", pairs.join(","));
    }
}

/// Writes one value with its labels.
trait Series: Send + Sync {
    fn write(&self, name: &str, labels: &[&'static str], values: &[String], out: &mut String);
}

impl Series for Counter {
    fn write(&self, name: &str, labels: &[&'static str], values: &[String], out: &mut String) {
        out.push_str(name);
        write_labels(labels, values, None, out);
        let _ = writeln!(out, " {}", self.get());
    }
}

impl Series for Gauge {
    fn write(&self, name: &str, labels: &[&'static str], values: &[String], out: &mut String) {
        out.push_str(name);
        write_labels(labels, values, None, out);
        let _ = writeln!(out, " {}", self.get());
    }
}

impl Series for Histogram {
    fn write(&self, name: &str, labels: &[&'static str], values: &[String], out: &mut String) {
        let mut below = 0;
        for (at, bucket) in self.buckets.iter().enumerate() {
            below += bucket.load(Relaxed);
            let bound = self.bounds.get(at).map_or("+Inf".into(), f64::to_string);
            let _ = write!(out, "{name}_bucket");
            write_labels(labels, values, Some(&bound), out);
            let _ = writeln!(out, " {below}");
        }
        let _ = write!(out, "{name}_sum");
        write_labels(labels, values, None, out);
        let _ = writeln!(out, " {}", f64::from_bits(self.sum.load(Relaxed)));
        let _ = write!(out, "{name}_count");
        write_labels(labels, values, None, out);
        let _ = writeln!(out, " {below}");
    }
}

impl<M: Series> Render for Family<M> {
    fn render(&self, name: &str, labels: &[&'static str], out: &mut String) {
        let series = self.series.read().unwrap_or_else(PoisonError::into_inner);
        for (values, metric) in &*series {
            metric.write(name, labels, values, out);
        }
    }
}

struct Single<M>(Arc<M>);

impl<M: Series> Render for Single<M> {
    fn render(&self, name: &str, _: &[&'static str], out: &mut String) {
        self.0.write(name, &[], &[], out);
    }
}

struct Declared {
    name: &'static str,
    help: &'static str,
    kind: &'static str,
    labels: &'static [&'static str],
    metric: Box<dyn Render>,
}

/// All metrics, in the order of their declaration.
#[derive(Default)]
pub struct Registry {
    declared: Vec<Declared>,
}

impl Registry {
    fn declare(
        &mut self,
        (name, help): (&'static str, &'static str),
        kind: &'static str,
        labels: &'static [&'static str],
        metric: impl Render + 'static,
    ) {
        assert!(
            self.declared.iter().all(|other| other.name != name),
            "metric {name} is declared twice"
        );
        self.declared.push(Declared {
            name,
            help,
            kind,
            labels,
            metric: Box::new(metric),
        });
    }

    /// Declares a counter.
    pub fn counter(&mut self, name: &'static str, help: &'static str) -> Arc<Counter> {
        let counter = Arc::new(Counter::default());
        self.declare((name, help), "counter", &[], Single(Arc::clone(&counter)));
        counter
    }

    /// Declares a gauge.
    pub fn gauge(&mut self, name: &'static str, help: &'static str) -> Arc<Gauge> {
        let gauge = Arc::new(Gauge::default());
        self.declare((name, help), "gauge", &[], Single(Arc::clone(&gauge)));
        gauge
    }

    /// Declares a histogram with upper bounds, ascending.
    pub fn histogram(
        &mut self,
        name: &'static str,
        help: &'static str,
        bounds: &'static [f64],
    ) -> Arc<Histogram> {
        let histogram = Arc::new(Histogram::new(bounds));
        self.declare(
            (name, help),
            "histogram",
            &[],
            Single(Arc::clone(&histogram)),
        );
        histogram
    }

    /// Declares counters by labels.
    pub fn counters(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &'static [&'static str],
    ) -> Arc<Family<Counter>> {
        let family = family(labels, |_| Counter::default(), &[]);
        self.declare((name, help), "counter", labels, Arc::clone(&family));
        family
    }

    /// Declares gauges by labels.
    pub fn gauges(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &'static [&'static str],
    ) -> Arc<Family<Gauge>> {
        let family = family(labels, |_| Gauge::default(), &[]);
        self.declare((name, help), "gauge", labels, Arc::clone(&family));
        family
    }

    /// Declares histograms by labels.
    pub fn histograms(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &'static [&'static str],
        bounds: &'static [f64],
    ) -> Arc<Family<Histogram>> {
        let family = family(labels, Histogram::new, bounds);
        self.declare((name, help), "histogram", labels, Arc::clone(&family));
        family
    }

    /// The text that Prometheus reads.
    #[must_use]
    pub fn render(&self) -> String {
        let mut out = String::new();
        for declared in &self.declared {
            let Declared {
                name,
                help,
                kind,
                labels,
                metric,
            } = declared;
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
            metric.render(name, labels, &mut out);
        }
        out
    }
}

fn family<M>(
    labels: &'static [&'static str],
    make: fn(&'static [f64]) -> M,
    bounds: &'static [f64],
) -> Arc<Family<M>> {
    Arc::new(Family {
        series: RwLock::new(BTreeMap::new()),
        labels: labels.len(),
        make,
        bounds,
    })
}

impl<M: Series> Render for Arc<Family<M>> {
    fn render(&self, name: &str, labels: &[&'static str], out: &mut String) {
        self.as_ref().render(name, labels, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renders_what_prometheus_reads() {
        let mut registry = Registry::default();
        let counter = registry.counter("a_total", "Help a.");
        let family = registry.counters("b_total", "Help b.", &["rpc", "class"]);
        let histogram = registry.histogram("c_seconds", "Help c.", &[0.5, 1.0]);
        counter.add(3);
        family.with(&["Get \"x\"", "ok"]).add(1);
        family.with(&["Get \"x\"", "ok"]).add(1);
        for value in [0.5, 0.75, 9.0] {
            histogram.observe(value);
        }
        assert_eq!(
            registry.render(),
            "# HELP a_total Help a.\n# TYPE a_total counter\na_total 3\n\
             # HELP b_total Help b.\n# TYPE b_total counter\n\
             b_total{rpc=\"Get \\\"x\\\"\",class=\"ok\"} 2\n\
             # HELP c_seconds Help c.\n# TYPE c_seconds histogram\n\
             c_seconds_bucket{le=\"0.5\"} 1\nc_seconds_bucket{le=\"1\"} 2\n\
             c_seconds_bucket{le=\"+Inf\"} 3\nc_seconds_sum 10.25\nc_seconds_count 3\n"
        );
    }

    #[test]
    fn label_values_are_bounded() {
        let mut registry = Registry::default();
        let family = registry.counters("a_total", "Help.", &["x"]);
        for n in 0..SERIES_MAX + 10 {
            family.with(&[&n.to_string()]).add(1);
        }
        assert_eq!(family.with(&["(others)"]).get(), 10);
    }
}
