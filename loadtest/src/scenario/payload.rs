//! One worker step on messages of different sizes: each passes from the client to the worker and back.

use anyhow::{Result, ensure};
use serde_json::json;

use super::{message, steps::finish};
use crate::{
    account::Expected,
    figures::Figures,
    harness::{FlowSpec, Progress, Stage},
    options::{Mode, Options},
};

/// What JSON needs around the text.
const AROUND: usize = r#"{"p":""}"#.len();

/// Runs it once for each size, on fresh servers.
///
/// # Errors
/// When anything fails, or an execution is not accounted for.
pub async fn run(name: &str, options: &Options, progress: Progress) -> Result<Vec<Figures>> {
    ensure!(
        options.mode == Mode::Finish,
        "payload has no --mode accept: use steps1, steps3 or steps9"
    );
    ensure!(!options.bytes.is_empty(), "--bytes: at least one size");
    let mut all = Vec::new();
    for &bytes in &options.bytes {
        ensure!(bytes >= AROUND, "--bytes: at least {AROUND}");
        progress.say(&format!("messages of {bytes} bytes"));
        let stage = Stage::set(options, &FlowSpec::chain(1, true), progress.clone()).await?;
        let mut figures = finish(name, &stage, options, message(data(bytes)), 1).await?;
        figures.insert("payload_bytes".to_owned(), json!(bytes));
        stage.settle(Expected::Succeeded { steps: 1 }).await?;
        stage.leave().await?;
        all.push(figures);
    }
    Ok(all)
}

/// JSON of exactly so many bytes that no compression makes much smaller: otherwise the disk would be
/// spared what real payloads cost it.
fn data(bytes: usize) -> String {
    const LETTERS: &[u8; 64] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_";
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let text: String = (AROUND..bytes)
        .map(|_| {
            // Xorshift: the same text in each run.
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            char::from(LETTERS[(random >> 58) as usize])
        })
        .collect();
    format!(r#"{{"p":"{text}"}}"#)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_json_of_its_size() {
        for bytes in [AROUND, 256, 4_096] {
            let text = data(bytes);
            assert_eq!(text.len(), bytes);
            assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok());
        }
    }
}
