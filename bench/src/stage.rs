//! What a workload gets to work with: a target, the options, and somewhere to put its figures.

use std::time::Duration;

use crate::figures::{Figure, Measurand, Name, Unit};
use crate::latency::Latencies;
use crate::load::{Load, Measured};
use crate::report::text;
use crate::size::Size;
use crate::targets::Target;

/// How the workloads are run.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// What every load is measured for.
    pub(crate) duration: Duration,
    /// Operations a second of every load; none is a closed loop.
    pub(crate) rate: Option<f64>,
    /// Words of which one must be part of a workload's name; none is every workload.
    pub(crate) only: Vec<String>,
}

impl Options {
    /// Whether the workload is to be run.
    pub(crate) fn wants(&self, workload: &str) -> bool {
        self.only.is_empty()
            || self
                .only
                .iter()
                .any(|word| workload.contains(word.as_str()))
    }
}

/// One target with one size of registry, during one repetition.
pub(crate) struct Stage<'a> {
    pub(crate) target: Target,
    pub(crate) size: Option<Size>,
    pub(crate) of: Measurand,
    pub(crate) options: &'a Options,
    pub(crate) figures: &'a mut Vec<Figure>,
}

impl Stage<'_> {
    /// Whether the workload is to be run.
    pub(crate) fn wants(&self, workload: &str) -> bool {
        self.options.wants(workload)
    }

    /// The load of every workload that has one.
    pub(crate) fn load(&self) -> Load {
        Load {
            duration: self.options.duration,
            rate: self.options.rate,
        }
    }

    /// Notes a rate with its latencies.
    pub(crate) fn note_load(&mut self, workload: &'static str, measured: Measured) {
        let mut figure = self.figure(workload, Unit::PerSecond, measured.rate);
        figure.latencies = Some(measured.latencies);
        figure.refused = measured.refused;
        self.add(figure);
    }

    /// Notes how long something took that was done several times: the median.
    pub(crate) fn note_latencies(&mut self, workload: &'static str, latencies: Latencies) {
        let median = latencies.percentiles().p50;
        let mut figure = self.figure(workload, Unit::Millis, median);
        figure.latencies = Some(latencies);
        self.add(figure);
    }

    /// Notes a rate at which some things were done, of which some were refused.
    pub(crate) fn note_rate(
        &mut self,
        workload: &'static str,
        done: usize,
        took: Duration,
        refused: usize,
    ) {
        let rate = done as f64 / took.as_secs_f64();
        let mut figure = self.figure(workload, Unit::PerSecond, rate);
        figure.refused = refused as u64;
        self.add(figure);
    }

    /// Notes a single figure.
    pub(crate) fn note(&mut self, workload: &'static str, unit: Unit, value: f64) {
        let figure = self.figure(workload, unit, value);
        self.add(figure);
    }

    fn figure(&self, workload: &'static str, unit: Unit, value: f64) -> Figure {
        let size = self.size;
        Figure {
            name: Name { workload, size },
            of: self.of,
            unit,
            value,
            latencies: None,
            refused: 0,
        }
    }

    fn add(&mut self, figure: Figure) {
        if self.wants(figure.name.workload) {
            println!("{}", text::progress(&figure));
            self.figures.push(figure);
        }
    }
}
