//! A chunk of rows of one head, forward and backward. The letters are those of [`super`].

use std::ops::Range;

use super::super::matrix::{Into, Matrix, MatrixMut, Workers, matmul};
use super::super::vector::{dot, exp};
use super::{DeltaGradients, DeltaHead, DeltaHeads};

/// A chunk of one head.
pub struct Chunk<'a> {
    heads: DeltaHeads,
    head: usize,
    rows: Range<usize>,
    q: Matrix<'a>,
    k: Matrix<'a>,
    v: Matrix<'a>,
    beta: Vec<f32>,
    /// `γ`
    decay: Vec<f32>,
    /// `D`, `[n, n]`, 0 above the diagonal.
    decays: Vec<f32>,
}

/// The values of a chunk's forward pass.
struct Solved {
    /// `K S`, `[n, dim_v]`
    seen: Vec<f32>,
    /// `L`, `[n, n]`
    l: Vec<f32>,
    /// `U`, `[n, dim_v]`
    u: Vec<f32>,
}

/// Products of rows with the transposed of the state before the chunk, and of its gradient after it, `[n, dim_k]` each.
struct ByState {
    /// `dO Sᵀ`
    d_o: Vec<f32>,
    /// `R Sᵀ`, with `R` the gradient of the right side of the equation for `U`.
    d_right: Vec<f32>,
    /// `U dSᵀ`
    u: Vec<f32>,
}

impl<'a> Chunk<'a> {
    pub fn new(of: &DeltaHead<'a>, rows: &Range<usize>) -> Self {
        let DeltaHeads {
            n_k,
            n_v,
            dim_k,
            dim_v,
        } = of.heads;
        let n = rows.len();
        let view = |x: &'a [f32], n_heads: usize, head: usize, dim: usize| {
            let first = (rows.start * n_heads + head) * dim;
            Matrix::strided(&x[first..], n, dim, n_heads * dim)
        };
        let column =
            |x: &[f32]| -> Vec<f32> { rows.clone().map(|row| x[row * n_v + of.head]).collect() };
        // In f64, since the differences of large sums matter.
        let mut sum = 0.0;
        let logs: Vec<f64> = column(of.inputs.log_decay)
            .into_iter()
            .map(|log| {
                sum += f64::from(log);
                sum
            })
            .collect();
        let mut decays = vec![0.0; n * n];
        for (t, row) in decays.chunks_exact_mut(n).enumerate() {
            let earlier = row[..=t].iter_mut().zip(&logs);
            earlier.for_each(|(d, log)| *d = exp((logs[t] - log) as f32));
        }
        Self {
            heads: of.heads,
            head: of.head,
            q: view(of.inputs.q, n_k, of.head % n_k, dim_k),
            k: view(of.inputs.k, n_k, of.head % n_k, dim_k),
            v: view(of.inputs.v, n_v, of.head, dim_v),
            beta: column(of.inputs.beta),
            decay: logs.iter().map(|&log| exp(log as f32)).collect(),
            decays,
            rows: rows.clone(),
        }
    }

    /// The decays from each row to the last one.
    fn to_last(&self) -> &[f32] {
        let n = self.rows.len();
        &self.decays[(n - 1) * n..]
    }

    /// Replaces the state before the chunk by the one after it, and gives the results, `[n, dim_v]`.
    pub fn forward(&self, state: &mut [f32]) -> Vec<f32> {
        let (n, dim_v) = (self.rows.len(), self.heads.dim_v);
        let solved = self.solve(state);
        let mut out = product(self.q, self.state(state));
        multiply_rows(&mut out, &self.decay);
        let u = Matrix::new(&solved.u, n, dim_v);
        add_product(&mut out, Matrix::new(&self.m(), n, n), u);
        self.add_to_state(state, u);
        out
    }

    /// Replaces the state before the chunk by the one after it.
    pub fn pass_on(&self, state: &mut [f32]) {
        let solved = self.solve(state);
        let u = Matrix::new(&solved.u, self.rows.len(), self.heads.dim_v);
        self.add_to_state(state, u);
    }

    fn add_to_state(&self, state: &mut [f32], u: Matrix) {
        let n = self.rows.len();
        let last = self.decay[n - 1];
        state.iter_mut().for_each(|s| *s *= last);
        let w = scaled_rows(self.k, self.to_last());
        add_product(state, Matrix::new(&w, n, self.heads.dim_k).t(), u);
    }

    fn state<'s>(&self, state: &'s [f32]) -> Matrix<'s> {
        Matrix::new(state, self.heads.dim_k, self.heads.dim_v)
    }

    /// `M`, `[n, n]`
    fn m(&self) -> Vec<f32> {
        let mut m = product(self.q, self.k.t());
        m.iter_mut().zip(&self.decays).for_each(|(m, d)| *m *= d);
        m
    }

    fn solve(&self, state: &[f32]) -> Solved {
        let (n, dim_v) = (self.rows.len(), self.heads.dim_v);
        let seen = product(self.k, self.state(state));
        let mut l = product(self.k, self.k.t());
        for (t, row) in l.chunks_exact_mut(n).enumerate() {
            let (before, rest) = row.split_at_mut(t);
            let decays = &self.decays[t * n..];
            let scaled = before.iter_mut().zip(decays);
            scaled.for_each(|(l, d)| *l *= self.beta[t] * d);
            rest.fill(0.0);
        }
        let mut u = Vec::with_capacity(n * dim_v);
        for (t, seen) in seen.chunks_exact(dim_v).enumerate() {
            let (beta, decay) = (self.beta[t], self.decay[t]);
            let right = self.v.row(t).iter().zip(seen);
            u.extend(right.map(|(v, seen)| beta * (v - decay * seen)));
        }
        for t in 1..n {
            let (before, row) = u.split_at_mut(t * dim_v);
            let l = &l[t * n..][..t];
            for (before, l) in before.chunks_exact(dim_v).zip(l) {
                add(&mut row[..dim_v], before, -l);
            }
        }
        Solved { seen, l, u }
    }

    /// The gradients of the chunk's inputs, `n` rows of this head, from `d_o`, that of the results of all heads. Replaces
    /// `d_state`, the gradient of the state after the chunk, by that of the state before it, which is `state`.
    pub fn backward(&self, state: &[f32], d_state: &mut [f32], d_o: &[f32]) -> DeltaGradients {
        let (n, dim_v) = (self.rows.len(), self.heads.dim_v);
        let first = (self.rows.start * self.heads.n_v + self.head) * dim_v;
        let d_o = Matrix::strided(&d_o[first..], n, dim_v, self.heads.n_v * dim_v);
        let (solved, m) = (self.solve(state), self.m());
        let d_right = self.d_right((&m, &solved.l), d_state, d_o);
        let [u, r] = [&solved.u, &d_right].map(|x| Matrix::new(x, n, dim_v));
        let (s, d_s) = (self.state(state), self.state(d_state));
        let by_state = ByState {
            d_o: product(d_o, s.t()),
            d_right: product(r, s.t()),
            u: product(u, d_s.t()),
        };
        // The gradients of M and of L.
        let mut d_m = product(d_o, u.t());
        let mut d_l = product(r, u.t());
        d_l.iter_mut().for_each(|d| *d = -*d);
        let mut d_log = self.d_log_of_decays((&d_m, &m), (&d_l, &solved.l));
        self.add_d_log_of_state(&by_state, &mut d_log);
        d_log[n - 1] += self.decay[n - 1] * dot(state, d_state);
        let d_beta = self.d_beta(&d_l, &solved, &d_right);
        self.scale_d_products(&mut d_m, &mut d_l);

        let [q, k, v] = self.d_rows((&d_m, &d_l), by_state, &d_right);
        for t in (1..n).rev() {
            d_log[t - 1] += d_log[t];
        }
        self.pass_back(d_state, d_o, r);
        DeltaGradients {
            q,
            k,
            v,
            log_decay: d_log,
            beta: d_beta,
        }
    }

    /// `−β γ`, the factors of the rows of `K S` in the right side of the equation for `U`.
    fn of_seen(&self) -> Vec<f32> {
        let factors = self.beta.iter().zip(&self.decay);
        factors.map(|(beta, decay)| -beta * decay).collect()
    }

    /// The gradient of the right side of the equation for `U`, from those of the results and of the state after the chunk.
    fn d_right(&self, (m, l): (&[f32], &[f32]), d_state: &[f32], d_o: Matrix) -> Vec<f32> {
        let n = self.rows.len();
        let w = scaled_rows(self.k, self.to_last());
        let mut d = product(Matrix::new(m, n, n).t(), d_o);
        add_product(
            &mut d,
            Matrix::new(&w, n, self.heads.dim_k),
            self.state(d_state),
        );
        self.solve_transposed(l, &mut d);
        d
    }

    /// The gradients of queries, keys and values. `d_m` and `d_l` are those of `Q Kᵀ` and of `K Kᵀ`.
    fn d_rows(
        &self,
        (d_m, d_l): (&[f32], &[f32]),
        by_state: ByState,
        d_right: &[f32],
    ) -> [Vec<f32>; 3] {
        let (n, dim_k) = (self.rows.len(), self.heads.dim_k);
        let (d_m, d_l) = (Matrix::new(d_m, n, n), Matrix::new(d_l, n, n));
        let mut dq = by_state.d_o;
        multiply_rows(&mut dq, &self.decay);
        add_product(&mut dq, d_m, self.k);
        let mut dk = by_state.d_right;
        multiply_rows(&mut dk, &self.of_seen());
        add_scaled_rows(&mut dk, &by_state.u, self.to_last(), dim_k);
        add_product(&mut dk, d_m.t(), self.q);
        add_product(&mut dk, d_l, self.k);
        add_product(&mut dk, d_l.t(), self.k);
        let mut dv = d_right.to_vec();
        multiply_rows(&mut dv, &self.beta);
        [dq, dk, dv]
    }

    /// Adds the gradients of the sums of log decays through the products with the states.
    fn add_d_log_of_state(&self, by_state: &ByState, d_log: &mut [f32]) {
        let dim_k = self.heads.dim_k;
        let mut of_last = 0.0;
        for (t, (d, of_seen)) in d_log.iter_mut().zip(self.of_seen()).enumerate() {
            let (q, k) = (self.q.row(t), self.k.row(t));
            let row = t * dim_k..(t + 1) * dim_k;
            let kept = self.to_last()[t] * dot(k, &by_state.u[row.clone()]);
            *d += self.decay[t] * dot(q, &by_state.d_o[row.clone()]) - kept;
            *d += of_seen * dot(k, &by_state.d_right[row]);
            of_last += kept;
        }
        d_log[self.rows.len() - 1] += of_last;
    }

    /// Replaces the gradient of the state after the chunk by that of the state before it. `r` is [`Self::d_right`].
    fn pass_back(&self, d_state: &mut [f32], d_o: Matrix, r: Matrix) {
        let (n, dim_k) = (self.rows.len(), self.heads.dim_k);
        let last = self.decay[n - 1];
        d_state.iter_mut().for_each(|d| *d *= last);
        let q = scaled_rows(self.q, &self.decay);
        add_product(d_state, Matrix::new(&q, n, dim_k).t(), d_o);
        let k = scaled_rows(self.k, &self.of_seen());
        add_product(d_state, Matrix::new(&k, n, dim_k).t(), r);
    }

    /// Replaces `d`, `[n, dim_v]`, by the solution of `(I + L)ᵀ x = d`.
    fn solve_transposed(&self, l: &[f32], d: &mut [f32]) {
        let (n, dim_v) = (self.rows.len(), self.heads.dim_v);
        for t in (1..n).rev() {
            let (before, row) = d.split_at_mut(t * dim_v);
            let l = &l[t * n..][..t];
            for (before, l) in before.chunks_exact_mut(dim_v).zip(l) {
                add(before, &row[..dim_v], -l);
            }
        }
    }

    /// The gradients of the sums of log decays through `D`, from the gradients of `M` and `L` and these themselves.
    fn d_log_of_decays(&self, (d_m, m): (&[f32], &[f32]), (d_l, l): (&[f32], &[f32])) -> Vec<f32> {
        let n = self.rows.len();
        let mut d_log = vec![0.0; n];
        for t in 0..n {
            for i in 0..t {
                let at = t * n + i;
                let d = d_m[at] * m[at] + d_l[at] * l[at];
                d_log[t] += d;
                d_log[i] -= d;
            }
        }
        d_log
    }

    /// The gradient of `β`.
    fn d_beta(&self, d_l: &[f32], solved: &Solved, d_r: &[f32]) -> Vec<f32> {
        let (n, dim_v) = (self.rows.len(), self.heads.dim_v);
        let gradient = |t: usize| {
            let seen = &solved.seen[t * dim_v..][..dim_v];
            let of_right: f32 = (self.v.row(t).iter().zip(seen))
                .zip(&d_r[t * dim_v..][..dim_v])
                .map(|((v, seen), d)| d * (v - self.decay[t] * seen))
                .sum();
            let k = self.k.row(t);
            let of_l = |i: usize| {
                let at = t * n + i;
                d_l[at] * self.decays[at] * dot(k, self.k.row(i))
            };
            of_right + (0..t).map(of_l).sum::<f32>()
        };
        (0..n).map(gradient).collect()
    }

    /// Turns the gradients of `M` and `L` into those of `Q Kᵀ` and of `K Kᵀ`.
    fn scale_d_products(&self, d_m: &mut [f32], d_l: &mut [f32]) {
        let n = self.rows.len();
        d_m.iter_mut()
            .zip(&self.decays)
            .for_each(|(d, decay)| *d *= decay);
        for (t, row) in d_l.chunks_exact_mut(n).enumerate() {
            let (before, rest) = row.split_at_mut(t);
            let decays = &self.decays[t * n..];
            let scaled = before.iter_mut().zip(decays);
            scaled.for_each(|(d, decay)| *d *= self.beta[t] * decay);
            rest.fill(0.0);
        }
    }
}

/// `factors ∘ x`, `[n, cols]`.
fn scaled_rows(x: Matrix, factors: &[f32]) -> Vec<f32> {
    let cols = x.shape().1;
    let mut y = Vec::with_capacity(factors.len() * cols);
    for (row, factor) in factors.iter().enumerate() {
        y.extend(x.row(row).iter().map(|x| factor * x));
    }
    y
}

/// `x = factors ∘ x`, a factor for each row.
fn multiply_rows(x: &mut [f32], factors: &[f32]) {
    let cols = x.len() / factors.len();
    for (row, factor) in x.chunks_exact_mut(cols).zip(factors) {
        row.iter_mut().for_each(|x| *x *= factor);
    }
}

/// `y += factors ∘ x`, `[n, cols]`, a factor for each row.
fn add_scaled_rows(y: &mut [f32], x: &[f32], factors: &[f32], cols: usize) {
    let rows = y.chunks_exact_mut(cols).zip(x.chunks_exact(cols));
    for ((y, x), factor) in rows.zip(factors) {
        add(y, x, *factor);
    }
}

/// `y += scale · x`
pub fn add(y: &mut [f32], x: &[f32], scale: f32) {
    y.iter_mut().zip(x).for_each(|(y, x)| *y += scale * x);
}

/// `left · right`
fn product(left: Matrix, right: Matrix) -> Vec<f32> {
    let mut y = vec![0.0; left.shape().0 * right.shape().1];
    add_product(&mut y, left, right);
    y
}

/// `y += left · right`
fn add_product(y: &mut [f32], left: Matrix, right: Matrix) {
    let mut y = MatrixMut::new(y, left.shape().0, right.shape().1);
    matmul(&mut y, Into::Add, 1.0, left, right, Workers::One);
}
