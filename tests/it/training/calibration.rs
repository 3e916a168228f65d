//! The scores of calibration against a naive computation: whole passes over single texts, scaled adapters, and sums over
//! the vocabulary in double precision.

use cope_convert::Adapter;
use cope_llama::decode::Contrast;
use cope_llama::train::Encoded;
use cope_llama::train::calibrate::score::{TextScore, measure};

use super::{Tiny, all_targets, families, lora, train_logits};

const SCALES: [f32; 3] = [0.25, 1.0, 1.25];
const CONTRASTS: [f32; 3] = [0.0, 0.1, 0.5];

/// The adapter with `scale` times the effect, by its matrices.
fn scaled(adapter: &Adapter, scale: f32) -> Adapter {
    let mut adapter = adapter.clone();
    for tensor in &mut adapter.tensors {
        tensor.b.data.iter_mut().for_each(|value| *value *= scale);
    }
    adapter
}

/// The score of a text, from both models' logits of all its tokens.
fn naive(text: &Encoded, user: &[f32], base: &[f32], alpha: f32) -> TextScore {
    let n_vocab = user.len() / (text.prompt.len() + text.response.len());
    let mut score = TextScore::default();
    for (i, &token) in text.response.iter().enumerate() {
        let row = (text.prompt.len() + i - 1) * n_vocab..(text.prompt.len() + i) * n_vocab;
        let (user, base) = (&user[row.clone()], &base[row]);
        let contrasted = user.iter().zip(base);
        let contrasted: Vec<f64> = contrasted
            .map(|(user, base)| f64::from(*user) - f64::from(alpha) * f64::from(*base))
            .collect();
        let log_z = contrasted.iter().map(|z| z.exp()).sum::<f64>().ln();
        score.logprob += contrasted[token as usize] - log_z;
        let max = user.iter().copied().fold(f32::MIN, f32::max);
        let plausible = (0..n_vocab).filter(|&token| user[token] >= max + 0.1f32.ln());
        let best = plausible.max_by(|&x, &y| contrasted[x].total_cmp(&contrasted[y]));
        score.n_best += usize::from(best == Some(token as usize));
        score.n_tokens += 1;
    }
    score
}

fn whole_logits(tiny: &Tiny, text: &Encoded, adapter: Option<&Adapter>) -> Vec<f32> {
    let tokens = [text.prompt.as_slice(), &text.response].concat();
    let lora = adapter.map(|adapter| lora(tiny, adapter));
    train_logits(&tiny.model, &tokens, lora.as_ref())
}

/// More texts than are computed in one pass; the last one is the base's own likeliest token.
fn texts(tiny: &Tiny) -> Vec<Encoded> {
    let prompts = ["hello alice", "the note and the wine", "and you"];
    let responses = ["dear you, thanks", "fine", "and alice and the wine, thanks"];
    let mut texts = Vec::new();
    for prompt in prompts {
        texts.extend(responses.map(|response| tiny.encode(prompt, response)));
    }
    let mut likeliest = tiny.encode("hello alice", "you");
    let logits = train_logits(&tiny.model, &likeliest.prompt, None);
    let last = &logits[logits.len() - tiny.model.shape().n_vocab..];
    let best = (0..last.len()).max_by(|&x, &y| last[x].total_cmp(&last[y]));
    likeliest.response = vec![best.unwrap() as i32];
    texts.push(likeliest);
    texts
}

#[test]
fn scores_are_those_of_whole_passes_with_scaled_matrices() {
    for tiny in families() {
        let texts = texts(&tiny);
        let targets = [tiny.kind.linears()[0], "ffn_up"];
        let second = tiny.kind.adapter(4, 2, &targets);
        let adapters = [all_targets(&tiny), second];
        let settings = adapters
            .iter()
            .flat_map(|it| SCALES.map(|scale| (it, scale)));
        let settings: Vec<_> = settings.collect();
        let loras = settings
            .iter()
            .map(|(adapter, scale)| lora(&tiny, adapter).scaled(*scale));
        let loras: Vec<_> = loras.collect();
        let contrasts = CONTRASTS.map(|alpha| Contrast::new(alpha, 0.1).unwrap());
        let mut n_passes = 0;
        let mut ended = || {
            n_passes += 1;
            Ok(())
        };
        let scores = measure(&tiny.model, (&texts, 8), &loras, &contrasts, &mut ended).unwrap();
        assert_eq!(n_passes, 2 * (1 + loras.len()));

        let near = |ours: TextScore, naive: TextScore| {
            let apart = (ours.logprob - naive.logprob).abs();
            assert!(apart < 2e-3, "{ours:?}, {naive:?}");
            assert_eq!((ours.n_best, ours.n_tokens), (naive.n_best, naive.n_tokens));
        };
        for (number, text) in texts.iter().enumerate() {
            let base = whole_logits(&tiny, text, None);
            near(scores.base[number], naive(text, &base, &base, 0.0));
            for ((adapter, scale), ours) in settings.iter().zip(&scores.contrasted) {
                let user = whole_logits(&tiny, text, Some(&scaled(adapter, *scale)));
                for (ours, alpha) in ours.iter().zip(CONTRASTS) {
                    near(ours[number], naive(text, &user, &base, alpha));
                }
            }
        }
        assert!(scores.base.last().unwrap().is_right());
    }
}
