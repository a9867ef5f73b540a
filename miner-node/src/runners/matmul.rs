//! The workload `torch_bench` where there is no torch: the same square matrix product, natively.
//!
//! The output says so. It keeps the seed's line, `throughput_ops=.., seconds=..`.

use std::io::{self, Write};
use std::thread;
use std::time::Instant;

use super::JobFacts;

/// Rows and columns, and products, of the seed's benchmark; a job may ask for less.
const SIZE: usize = 1024;
const ROUNDS: usize = 100;

/// The most threads that one job gets.
const MOST_THREADS: usize = 256;

/// Columns of a panel of the right-hand matrix. With [`BLOCK`] rows the sums just fit into the
/// sixteen registers of plain x86-64 (measured: 16 columns spill and are a quarter slower).
const PANEL: usize = 8;

/// Rows of the left-hand matrix that are taken together.
const BLOCK: usize = 4;

/// Squares a random matrix again and again, printing the result to `out` and progress to `log`.
pub(super) fn bench(
    facts: &JobFacts,
    out: &mut impl Write,
    log: &mut impl Write,
) -> io::Result<()> {
    let parameter = |name: &str, most: usize| {
        let asked = facts.params.get(name).and_then(|value| value.as_u64());
        asked
            .and_then(|value| usize::try_from(value).ok())
            .map_or(most, |value| value.clamp(1, most))
    };
    let (size, rounds) = (parameter("size", SIZE), parameter("rounds", ROUNDS));
    let threads = usize::try_from(facts.threads).unwrap_or(1).clamp(1, MOST_THREADS);
    let mut matrix = Matrix::random(size);
    let started = Instant::now();
    let mut told = 0;
    for round in 1..=rounds {
        matrix = matrix.times(&matrix, threads);
        let pct = round * 100 / rounds;
        if pct >= told + 10 {
            told = pct;
            writeln!(log, "progress: {pct}%")?;
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    writeln!(out, "throughput_ops={rounds}, seconds={seconds:.4}")?;
    writeln!(out, "engine=native, device=cpu, dtype=f32, size={size}, threads={threads}")
}

/// A square matrix of `f32`, padded with zeros to whole panels, row by row.
struct Matrix {
    size: usize,
    stride: usize,
    values: Vec<f32>,
}

impl Matrix {
    fn zero(size: usize) -> Self {
        let stride = size.next_multiple_of(PANEL);
        Self { size, stride, values: vec![0.0; stride * stride] }
    }

    /// Values between -1 and 1 out of a xorshift generator: what they are does not matter.
    fn random(size: usize) -> Self {
        let mut matrix = Self::zero(size);
        let mut state = 0x9E37_79B9_u32;
        for row in matrix.values.chunks_mut(matrix.stride).take(size) {
            for value in &mut row[..size] {
                state ^= state << 13;
                state ^= state >> 17;
                state ^= state << 5;
                *value = state as f32 / (u32::MAX / 2) as f32 - 1.0;
            }
        }
        matrix
    }

    /// The product, its rows shared out over `threads`.
    fn times(&self, right: &Self, threads: usize) -> Self {
        let mut product = Self::zero(self.size);
        let panels = right.panels();
        let blocks = self.stride / BLOCK;
        let share = blocks.div_ceil(threads) * BLOCK * self.stride;
        thread::scope(|scope| {
            let targets = product.values.chunks_mut(share);
            for (rows, target) in self.values.chunks(share).zip(targets) {
                let panels = &panels;
                scope.spawn(move || multiply(rows, panels, target, self.stride));
            }
        });
        product
    }

    /// The same values with each panel of [`PANEL`] columns in one piece.
    fn panels(&self) -> Vec<f32> {
        let mut panels = Vec::with_capacity(self.values.len());
        for panel in 0..self.stride / PANEL {
            for row in self.values.chunks(self.stride) {
                panels.extend_from_slice(&row[panel * PANEL..(panel + 1) * PANEL]);
            }
        }
        panels
    }
}

/// `target += rows x panels`.
fn multiply(rows: &[f32], panels: &[f32], target: &mut [f32], stride: usize) {
    let blocks = rows.chunks_exact(BLOCK * stride).zip(target.chunks_exact_mut(BLOCK * stride));
    for (rows, target) in blocks {
        let (first, rest) = rows.split_at(stride);
        let (second, rest) = rest.split_at(stride);
        let (third, fourth) = rest.split_at(stride);
        for (index, panel) in panels.chunks_exact(stride * PANEL).enumerate() {
            let mut sums = [[0.0_f32; PANEL]; BLOCK];
            let columns = first.iter().zip(second).zip(third.iter().zip(fourth));
            for (((a, b), (c, d)), line) in columns.zip(panel.chunks_exact(PANEL)) {
                for column in 0..PANEL {
                    sums[0][column] += a * line[column];
                    sums[1][column] += b * line[column];
                    sums[2][column] += c * line[column];
                    sums[3][column] += d * line[column];
                }
            }
            for (row, sums) in target.chunks_exact_mut(stride).zip(&sums) {
                row[index * PANEL..(index + 1) * PANEL].copy_from_slice(sums);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_product_is_that_of_the_textbook() {
        let matrix = Matrix::random(19);
        let at = |row: usize, column: usize| matrix.values[row * matrix.stride + column];
        for threads in [1, 3] {
            let product = matrix.times(&matrix, threads);
            for row in 0..19 {
                for column in 0..19 {
                    let expected: f32 = (0..19).map(|k| at(row, k) * at(k, column)).sum();
                    let got = product.values[row * product.stride + column];
                    assert!((got - expected).abs() < 1e-4, "{row},{column}: {got} {expected}");
                }
            }
        }
    }

    #[test]
    fn the_output_has_the_line_and_the_truth() {
        let params = json!({"size": 20, "rounds": 3}).as_object().unwrap().clone();
        let facts = JobFacts { params, threads: 2, ..JobFacts::default() };
        let (mut out, mut log) = (Vec::new(), Vec::new());
        bench(&facts, &mut out, &mut log).unwrap();
        let out = String::from_utf8(out).unwrap();
        assert!(out.starts_with("throughput_ops=3, seconds=0."), "{out}");
        assert!(out.contains("engine=native") && out.contains("threads=2"), "{out}");
        assert_eq!(
            String::from_utf8(log).unwrap(),
            "progress: 33%\nprogress: 66%\nprogress: 100%\n"
        );
    }
}
