use super::super::attention::Segment;
use super::super::finite_differences::{assert_gradient, values};
use super::super::vector::dot;
use super::*;

const HEADS: DeltaHeads = DeltaHeads {
    n_k: 2,
    n_v: 4,
    dim_k: 6,
    dim_v: 5,
};

struct Values([Vec<f32>; 5]);

impl Values {
    /// Unit keys and queries, decays from all to almost nothing, and β between 0 and 1.
    fn new(t: usize) -> Self {
        let keys = |seed| {
            let mut x = values(t * HEADS.n_k * HEADS.dim_k, seed);
            for x in x.chunks_exact_mut(HEADS.dim_k) {
                let norm = dot(x, x).sqrt();
                x.iter_mut().for_each(|x| *x /= norm);
            }
            x
        };
        let scalars = |seed| values(t * HEADS.n_v, seed);
        let log_decay = scalars(4).iter().map(|x| -2.0 * x * x * x.abs()).collect();
        let beta = scalars(5).iter().map(|x| 0.5 + 0.49 * x).collect();
        let v = values(t * HEADS.n_v * HEADS.dim_v, 3);
        Self([keys(1), keys(2), v, log_decay, beta])
    }

    fn inputs(&self) -> DeltaInputs<'_> {
        let [q, k, v, log_decay, beta] = &self.0;
        DeltaInputs {
            q,
            k,
            v,
            log_decay,
            beta,
        }
    }
}

/// A prompt of more than one chunk, two continuations of it, and a sequence that stands alone.
fn segments() -> (Vec<Segment>, usize) {
    let segment = |keys: &[Range<usize>]| Segment {
        keys: keys.to_vec(),
        queries: keys[keys.len() - 1].clone(),
    };
    let segments = vec![
        segment(&[0..0, 0..70]),
        segment(&[0..70, 70..200]),
        segment(&[0..70, 200..203]),
        segment(&[0..0, 203..210]),
    ];
    (segments, 210)
}

/// The rule row by row, in f64, straight from the formula.
fn naive(values: &Values, segments: &[Segment]) -> Vec<f64> {
    let DeltaInputs {
        q,
        k,
        v,
        log_decay,
        beta,
    } = values.inputs();
    let (dim_k, dim_v) = (HEADS.dim_k, HEADS.dim_v);
    let mut o = vec![0.0; v.len()];
    for segment in segments {
        let rows: Vec<usize> = segment.keys.iter().cloned().flatten().collect();
        for head in 0..HEADS.n_v {
            let mut state = vec![0f64; dim_k * dim_v];
            for &row in &rows {
                let key = |x: &[f32], i: usize| {
                    f64::from(x[(row * HEADS.n_k + head % HEADS.n_k) * dim_k + i])
                };
                let scalar = |x: &[f32]| f64::from(x[row * HEADS.n_v + head]);
                state.iter_mut().for_each(|s| *s *= scalar(log_decay).exp());
                for j in 0..dim_v {
                    let at = (row * HEADS.n_v + head) * dim_v + j;
                    let read = |x: &[f32], state: &[f64]| -> f64 {
                        (0..dim_k).map(|i| key(x, i) * state[i * dim_v + j]).sum()
                    };
                    let u = scalar(beta) * (f64::from(v[at]) - read(k, &state));
                    (0..dim_k).for_each(|i| state[i * dim_v + j] += key(k, i) * u);
                    o[at] = read(q, &state);
                }
            }
        }
    }
    o
}

#[test]
fn chunks_agree_with_the_rule_row_by_row() {
    let (segments, t) = segments();
    let values = Values::new(t);
    let (o, _) = HEADS.forward(values.inputs(), &Lineage::new(&segments), |_| None);
    let expected = naive(&values, &segments);
    for (o, expected) in o.iter().zip(&expected) {
        assert!((f64::from(*o) - expected).abs() < 2e-6, "{o}, {expected}");
    }
    assert!(expected.iter().any(|o| o.abs() > 0.3));
}

#[test]
fn a_sequence_goes_on_from_the_state_of_an_earlier_pass() {
    let values = Values::new(100);
    let one = |keys: Range<usize>, queries| {
        Lineage::new(&[Segment {
            keys: vec![keys],
            queries,
        }])
    };
    let (expected, _) = HEADS.forward(values.inputs(), &one(0..100, 0..100), |_| None);
    let cut = |from: usize, to: usize| {
        let widths = [12, 12, 20, 4, 4];
        let parts = values.0.iter().zip(widths);
        let parts: Vec<_> = parts.map(|(x, n)| x[from * n..to * n].to_vec()).collect();
        Values(parts.try_into().unwrap())
    };
    let (mut o, states) = HEADS.forward(cut(0, 70).inputs(), &one(0..70, 0..70), |_| None);
    assert_eq!(states[0].len(), HEADS.state_len());
    let rest = one(0..100, 0..30);
    let earlier = |row| (row == 69).then_some(states[0].as_slice());
    let (later, _) = HEADS.forward(cut(70, 100).inputs(), &rest, earlier);
    o.extend(later);
    let apart = o.iter().zip(&expected).map(|(x, y)| (x - y).abs());
    assert!(apart.fold(0.0, f32::max) < 1e-6);
}

#[test]
fn gradients_are_finite_differences() {
    let (segments, t) = segments();
    let lineage = Lineage::new(&segments);
    let given = Values::new(t);
    let d_o = values(given.0[2].len(), 9);
    let gradients = HEADS.backward(given.inputs(), &lineage, &d_o);
    let DeltaGradients {
        q,
        k,
        v,
        log_decay,
        beta,
    } = gradients;
    for (which, gradient) in [q, k, v, log_decay, beta].into_iter().enumerate() {
        assert_gradient(&given.0[which], &d_o, &gradient, |x| {
            let mut moved = Values(given.0.clone());
            moved.0[which] = x.to_vec();
            HEADS.forward(moved.inputs(), &lineage, |_| None).0
        });
    }
}
