//! Loops over rows of f32 that the compiler vectorises: they have no branches and keep 16 partial results, which are
//! combined in the same order on every machine.

/// Partial results of a loop.
const LANES: usize = 16;

/// `Σ xᵢ yᵢ`.
pub fn dot(x: &[f32], y: &[f32]) -> f32 {
    let ((x, x_rest), (y, y_rest)) = (x.as_chunks::<LANES>(), y.as_chunks::<LANES>());
    let mut sums = [0.0; LANES];
    for (x, y) in x.iter().zip(y) {
        for lane in 0..LANES {
            sums[lane] += x[lane] * y[lane];
        }
    }
    let rest: f32 = x_rest.iter().zip(y_rest).map(|(x, y)| x * y).sum();
    sums.iter().sum::<f32>() + rest
}

/// `Σ xᵢ`, exact to about one part in 10⁷ over a vocabulary.
pub fn sum(x: &[f32]) -> f32 {
    /// Values that are summed in f32; the sums of such parts are added in f64.
    const PART: usize = 4096;
    let part = |x: &[f32]| {
        let (chunks, rest) = x.as_chunks::<LANES>();
        let mut sums = [0.0; LANES];
        for x in chunks {
            for lane in 0..LANES {
                sums[lane] += x[lane];
            }
        }
        sums.iter().chain(rest).map(|&x| f64::from(x)).sum::<f64>()
    };
    x.chunks(PART).map(part).sum::<f64>() as f32
}

/// The largest value, or `−∞` for an empty slice. NaNs are skipped.
pub fn max(x: &[f32]) -> f32 {
    let (chunks, rest) = x.as_chunks::<LANES>();
    let mut best = [f32::NEG_INFINITY; LANES];
    for x in chunks {
        for lane in 0..LANES {
            best[lane] = if x[lane] > best[lane] {
                x[lane]
            } else {
                best[lane]
            };
        }
    }
    best.iter()
        .chain(rest)
        .copied()
        .fold(f32::NEG_INFINITY, f32::max)
}

/// `eˣ` to 2 units in the last place: 0 below −86.9, infinity above 88.7.
///
/// `eˣ = 2ⁿ eʳ` with `n = round(x / ln 2)` and `|r| ≤ ln 2 / 2`, where the Taylor series needs eight terms.
// A call would keep the compiler from vectorising the loop around it.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    /// 1.5 · 2²³: adding it to a number leaves the nearest integer in the lowest bits of the sum.
    const ROUNDER: f32 = 12_582_912.0;
    /// ln 2 in two parts; the first has so few bits that its product with `n` is exact.
    const LN_2: (f32, f32) = (355.0 / 512.0, -2.121_944_4e-4);
    const LEAST: f32 = -86.9;
    const MOST: f32 = 88.7;
    let inside = x.clamp(LEAST, MOST);
    let n = inside * std::f32::consts::LOG2_E + ROUNDER;
    // 2ⁿ in two factors, since 2¹²⁸ does not fit into an f32.
    let power = ((n.to_bits() << 23).wrapping_add(0x3f00_0000), 2.0);
    let n = n - ROUNDER;
    let r = inside - n * LN_2.0 - n * LN_2.1;
    let mut e = 1.0 / 5040.0;
    for term in [720.0, 120.0, 24.0, 6.0, 2.0, 1.0, 1.0] {
        e = e * r + 1.0 / term;
    }
    let e = e * f32::from_bits(power.0) * power.1;
    let e = if x < LEAST { 0.0 } else { e };
    if x > MOST { f32::INFINITY } else { e }
}

/// `tanh x`, with an error of at most 3e-7.
#[inline]
pub fn tanh(x: f32) -> f32 {
    // tanh x = 1 − 2 / (1 + exp 2x)
    1.0 - 2.0 * (1.0 + exp(2.0 * x)).recip()
}

/// Replaces logits by probabilities, and returns `log Σ exp` of the logits. A NaN makes all of them NaN.
pub fn softmax(logits: &mut [f32]) -> f32 {
    let max = max(logits);
    logits.iter_mut().for_each(|z| *z = exp(*z - max));
    let sum = sum(logits);
    let norm = sum.recip();
    logits.iter_mut().for_each(|p| *p *= norm);
    max + sum.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_exact_to_a_few_units_in_the_last_place() {
        for i in -869_000..887_000 {
            let x = i as f32 / 10_000.0;
            let expected = f64::from(x).exp();
            let error = (f64::from(exp(x)) - expected).abs() / expected;
            assert!(error < 2.4e-7, "exp({x}) is off by {error}");
        }
        assert!(exp(f32::NAN).is_nan());
        assert!(exp(f32::INFINITY).is_infinite() && exp(100.0).is_infinite());
        assert!(
            exp(f32::NEG_INFINITY).abs() < f32::MIN_POSITIVE
                && exp(-100.0).abs() < f32::MIN_POSITIVE
        );
    }

    #[test]
    fn tanh_is_exact_to_three_parts_in_ten_million() {
        for i in -200_000..200_000 {
            let x = i as f32 / 10_000.0;
            let error = (f64::from(tanh(x)) - f64::from(x).tanh()).abs();
            assert!(error < 3e-7, "tanh({x}) is off by {error}");
        }
        assert!(tanh(f32::NAN).is_nan());
        assert!((tanh(1e30) - 1.0).abs() < 1e-7 && (tanh(-1e30) + 1.0).abs() < 1e-7);
    }

    #[test]
    fn sums_and_maxima_match_f64() {
        let x: Vec<f32> = (0..50_001).map(|i| (i as f32 * 0.37).sin()).collect();
        let total: f64 = x.iter().map(|&x| f64::from(x)).sum();
        assert!((f64::from(sum(&x)) - total).abs() < 1e-2);
        let squares: f64 = x.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
        assert!((f64::from(dot(&x, &x)) / squares - 1.0).abs() < 1e-5);
        let largest = x.iter().copied().fold(f32::MIN, f32::max);
        assert!((max(&x) - largest).abs() < f32::EPSILON);
    }
}
