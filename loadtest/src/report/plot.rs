//! Results as SVG: the latency by percentile, and how a load went over time or over what had finished.
//! Written by hand: two kinds of line plots need no library.

use std::{fmt::Write as _, fs, path::Path};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::title;
use crate::figures::Figures;

const WIDTH: f64 = 820.0;
const PANEL_HEIGHT: f64 = 240.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 46.0;
const BOTTOM: f64 = 44.0;
/// About so many lines across a panel.
const TICKS: f64 = 6.0;
/// Nines on the axis of percentiles: up to 99.999 %.
const NINES: u32 = 5;

/// A line plot with axes of its own.
struct Panel {
    title: String,
    x_label: &'static str,
    y_label: String,
    points: Vec<(f64, f64)>,
    /// Where the x axis has its texts; found by itself when empty.
    x_ticks: Vec<(f64, String)>,
}

/// Writes the plots of each result into a folder. Gives how many files.
///
/// # Errors
/// When a file cannot be written.
pub fn write(folder: &Path, results: &[Figures]) -> Result<usize> {
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let mut files = 0;
    for result in results {
        for (kind, panels) in [("latency", latency(result)), ("course", course(result))] {
            if panels.is_empty() {
                continue;
            }
            let path = folder.join(format!("{}-{kind}.svg", file_name(result)));
            fs::write(&path, svg(&title(result), &panels))
                .with_context(|| path.display().to_string())?;
            files += 1;
        }
    }
    Ok(files)
}

/// The title, as far as it may stand in a file's name.
fn file_name(result: &Figures) -> String {
    let mut name = String::new();
    for letter in title(result).chars() {
        if letter.is_ascii_alphanumeric() || letter == '.' {
            name.push(letter);
        } else if !name.ends_with('-') && letter != '(' && letter != ')' {
            name.push('-');
        }
    }
    name
}

fn latency(result: &Figures) -> Vec<Panel> {
    let Some(Value::Array(curve)) = result.get("latency_curve_ms") else {
        return Vec::new();
    };
    // Equal distances for equal numbers of nines: where the tail is, there is room for it.
    let nines = |quantile: f64| {
        let rest = (1.0 - quantile).max(10_f64.powi(-(NINES.cast_signed())));
        -rest.log10()
    };
    let points = curve
        .iter()
        .filter_map(|pair| Some((nines(pair[0].as_f64()?), pair[1].as_f64()?)))
        .collect();
    let mut x_ticks = vec![(0.0, "0".to_owned()), (nines(0.5), "50 %".to_owned())];
    for count in 1..=NINES {
        let percent = match count {
            1 => "90 %".to_owned(),
            2 => "99 %".to_owned(),
            more => format!("99.{} %", "9".repeat(more as usize - 2)),
        };
        x_ticks.push((f64::from(count), percent));
    }
    vec![Panel {
        title: "latency by percentile".to_owned(),
        x_label: "percentile",
        y_label: "ms".to_owned(),
        points,
        x_ticks,
    }]
}

/// A panel for each thing that was looked at again and again.
fn course(result: &Figures) -> Vec<Panel> {
    let (rows, x_key, x_label) = match (result.get("slices"), result.get("course")) {
        (Some(Value::Array(rows)), _) => (rows, "finished", "finished executions"),
        (None, Some(Value::Array(rows))) => (rows, "at_s", "seconds"),
        _ => return Vec::new(),
    };
    [
        ("rate_per_s", "rate", "per second", 1.0),
        ("p99_ms", "p99", "ms", 1.0),
        (
            "server_cpu_us_per_execution",
            "server CPU",
            "us/execution",
            1.0,
        ),
        ("server_cpu_cores", "server CPU", "cores", 1.0),
        ("rss_bytes", "resident memory", "MB", 1e-6),
        ("disk_bytes", "disk", "MB", 1e-6),
    ]
    .into_iter()
    .filter_map(|(key, title, unit, factor)| {
        let points: Vec<(f64, f64)> = rows
            .iter()
            .filter_map(|row| Some((row[x_key].as_f64()?, row[key].as_f64()? * factor)))
            .collect();
        (points.len() >= 2).then(|| Panel {
            title: title.to_owned(),
            x_label,
            y_label: unit.to_owned(),
            points,
            x_ticks: Vec::new(),
        })
    })
    .collect()
}

fn svg(title: &str, panels: &[Panel]) -> String {
    let height = PANEL_HEIGHT * panels.len() as f64 + 30.0;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"22\" font-size=\"15\">{}</text>\n",
        escaped(title)
    );
    for (at, panel) in panels.iter().enumerate() {
        let _ = writeln!(
            text,
            "<g transform=\"translate(0 {})\">",
            24.0 + PANEL_HEIGHT * at as f64
        );
        draw(&mut text, panel);
        text.push_str("</g>\n");
    }
    text.push_str("</svg>\n");
    text
}

fn draw(text: &mut String, panel: &Panel) {
    let x_ends = ends(panel.points.iter().map(|p| p.0), false);
    let y_ends = ends(panel.points.iter().map(|p| p.1), true);
    let (width, height) = (WIDTH - LEFT - RIGHT, PANEL_HEIGHT - TOP - BOTTOM);
    let x = |value: f64| LEFT + (value - x_ends.0) / (x_ends.1 - x_ends.0) * width;
    let y = |value: f64| TOP + height - (value - y_ends.0) / (y_ends.1 - y_ends.0) * height;
    let x_ticks = match panel.x_ticks.is_empty() {
        true => ticks(x_ends),
        false => panel.x_ticks.clone(),
    };
    let _ = writeln!(
        text,
        "<text x=\"{LEFT}\" y=\"{}\">{}, {}</text>",
        TOP - 10.0,
        escaped(&panel.title),
        escaped(&panel.y_label)
    );
    for (value, label) in x_ticks.iter().filter(|(value, _)| *value <= x_ends.1) {
        let at = x(*value);
        let _ = writeln!(
            text,
            "<path d=\"M{at:.1} {TOP}v{height}\" stroke=\"#ddd\"/><text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>",
            TOP + height + 16.0
        );
    }
    for (value, label) in ticks(y_ends) {
        let at = y(value);
        let _ = writeln!(
            text,
            "<path d=\"M{LEFT} {at:.1}h{width}\" stroke=\"#ddd\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
            LEFT - 6.0,
            at + 4.0
        );
    }
    let line: Vec<String> = panel
        .points
        .iter()
        .map(|point| format!("{:.1},{:.1}", x(point.0), y(point.1)))
        .collect();
    let _ = writeln!(
        text,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"#1a5fb4\" stroke-width=\"1.8\"/>\n\
         <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
        line.join(" "),
        LEFT + width / 2.0,
        TOP + height + 34.0,
        escaped(panel.x_label)
    );
}

/// From the least to the largest; from 0 where that says what matters: how large something is.
fn ends(values: impl Iterator<Item = f64>, from_zero: bool) -> (f64, f64) {
    let (mut least, mut largest) = (f64::INFINITY, f64::NEG_INFINITY);
    for value in values {
        (least, largest) = (least.min(value), largest.max(value));
    }
    if from_zero {
        (least, largest) = (0.0, largest * 1.05);
    }
    // A single value needs a width too.
    if largest > least {
        (least, largest)
    } else {
        (least, least + 1.0)
    }
}

/// Round numbers within the ends.
fn ticks((least, largest): (f64, f64)) -> Vec<(f64, String)> {
    let raw = (largest - least) / TICKS;
    let power = 10_f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|step| *step >= raw)
        .unwrap_or(power * 10.0);
    let digits = if step >= 1.0 {
        0
    } else {
        (-step.log10().floor()) as usize
    };
    let mut ticks = Vec::new();
    let mut at = (least / step).ceil() * step;
    while at <= largest {
        ticks.push((at, format!("{at:.digits$}")));
        at += step;
    }
    ticks
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn result() -> Figures {
        let value = json!({
            "scenario": "history", "nodes": 1, "clients": 64,
            "latency_curve_ms": [[0.0, 1.0], [0.5, 2.0], [0.99, 9.0], [1.0, 30.0]],
            "slices": [
                {"finished": 10, "rate_per_s": 100.0, "p99_ms": 3.0, "disk_bytes": null},
                {"finished": 20, "rate_per_s": 90.0, "p99_ms": 4.0, "disk_bytes": null},
            ],
        });
        value.as_object().expect("an object").clone()
    }

    #[test]
    fn plots_are_whole_and_within_the_picture() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(write(folder.path(), &[result()]).expect("written"), 2);
        for kind in ["latency", "course"] {
            let path = folder
                .path()
                .join(format!("history-1-nodes-64-clients-{kind}.svg"));
            let text = fs::read_to_string(path).expect(kind);
            assert!(text.starts_with("<svg") && text.ends_with("</svg>\n"));
            assert!(!text.contains("NaN") && !text.contains("inf"));
            let lines: Vec<&str> = text.split("points=\"").skip(1).collect();
            assert_eq!(lines.len(), if kind == "latency" { 1 } else { 2 });
            for point in lines[0].split('"').next().expect("points").split(' ') {
                let (x, y) = point.split_once(',').expect("a pair");
                let (x, y): (f64, f64) = (x.parse().expect("x"), y.parse().expect("y"));
                assert!((LEFT..=WIDTH).contains(&x) && (TOP..=PANEL_HEIGHT).contains(&y));
            }
        }
    }

    #[test]
    fn ticks_are_round_numbers() {
        let texts = |ends| -> Vec<String> { ticks(ends).into_iter().map(|tick| tick.1).collect() };
        assert_eq!(texts((0.0, 12.0)), ["0", "2", "4", "6", "8", "10", "12"]);
        assert_eq!(
            texts((0.0, 0.5)),
            ["0.0", "0.1", "0.2", "0.3", "0.4", "0.5"]
        );
    }
}
