//! Reading the frozen weights of a GGUF file, from any of the types that it may hold them in.

use std::collections::BTreeSet;
use std::ops::Range;

use cope_convert::Adapter;
use cope_convert::gguf::{Gguf, TensorInfo};

use super::file_table::FileTable;
use super::ops::linear::{FrozenWeight, WeightType};
use super::ops::stored::Stored;
use crate::llama::can_dequantize;
use crate::{Error, Result};

/// A reader of the tensors of one file, which remembers which it has read.
pub struct Weights<'a> {
    gguf: &'a Gguf,
    weight_type: WeightType,
    /// A task adapter that is added to the matrices.
    task: Option<&'a Adapter>,
    read: BTreeSet<&'a str>,
}

impl<'a> Weights<'a> {
    /// A reader of a file whose header has been checked. It adds the matrices of `task`, and converts linear layers to
    /// `weight_type`.
    pub fn new(gguf: &'a Gguf, weight_type: WeightType, task: Option<&'a Adapter>) -> Self {
        Self {
            gguf,
            weight_type,
            task,
            read: BTreeSet::new(),
        }
    }

    /// Reads a vector of `len` values.
    ///
    /// # Errors
    /// The tensor is missing, has another shape, or is of a type that cannot be read.
    pub fn vector(&mut self, name: &str, len: usize) -> Result<Vec<f32>> {
        Ok(self.stored(name, 1, len)?.row(0))
    }

    /// Reads an optional vector of `len` values. `None` if the file does not have it.
    ///
    /// # Errors
    /// The tensor has another shape, or is of a type that cannot be read.
    pub fn vector_if_there(&mut self, name: &str, len: usize) -> Result<Option<Vec<f32>>> {
        if self.contains(name) {
            self.vector(name, len).map(Some)
        } else {
            Ok(None)
        }
    }

    /// Reads a linear layer: the matrix `[n_out, n_in]` called `name`, and its bias if there is one.
    ///
    /// # Errors
    /// A tensor is missing, has another shape, or is of a type that cannot be read.
    pub fn linear(&mut self, name: &str, n_out: usize, n_in: usize) -> Result<FrozenWeight> {
        let mut layers = self.linear_layers(name, &[n_out], n_in)?;
        Ok(layers.remove(0))
    }

    /// Reads a linear layer without a bias, and holds it in f32, whatever the others are held in.
    ///
    /// # Errors
    /// The tensor is missing, has another shape, or is of a type that cannot be read.
    pub fn exact_linear(&mut self, name: &str, n_out: usize, n_in: usize) -> Result<FrozenWeight> {
        let stored = self.stored(name, n_out, n_in)?;
        Ok(FrozenWeight::new(stored, WeightType::F32))
    }

    /// Reads linear layers that one matrix holds, with `rows` output features each: the matrix `[sum of rows, n_in]` called
    /// `name`, and its bias if there is one.
    ///
    /// # Errors
    /// A tensor is missing, has another shape, or is of a type that cannot be read.
    pub fn linear_layers(
        &mut self,
        name: &str,
        rows: &[usize],
        n_in: usize,
    ) -> Result<Vec<FrozenWeight>> {
        let n_out = rows.iter().sum();
        let stored = self.stored(name, n_out, n_in)?;
        let bias = self.vector_if_there(&name.replace(".weight", ".bias"), n_out)?;
        let mut bias = bias.as_deref();
        let layer = |stored: Stored| {
            let n_out = stored.n_out();
            let weight = FrozenWeight::new(stored, self.weight_type);
            match bias.and_then(|bias| bias.split_at_checked(n_out)) {
                Some((first, rest)) => {
                    bias = Some(rest);
                    weight.with_bias(first.to_vec())
                }
                None => weight,
            }
        };
        Ok(stored.split(rows).into_iter().map(layer).collect())
    }

    /// Reads all values of a small matrix, `[rows, cols]`.
    ///
    /// # Errors
    /// The tensor is missing, has another shape, or is of a type that cannot be read.
    pub fn rows(&mut self, name: &str, rows: usize, cols: usize) -> Result<Vec<f32>> {
        let stored = self.stored(name, rows, cols)?;
        Ok((0..rows).flat_map(|row| stored.row(row)).collect())
    }

    /// Leaves the tensors of these blocks alone: those predict further tokens, and have no part in the next.
    pub fn leave_blocks(&mut self, layers: Range<usize>) {
        let is_left = |name: &str| {
            let number = name
                .strip_prefix("blk.")
                .and_then(|it| it.split('.').next());
            let number = number.and_then(|it| it.parse().ok());
            number.is_some_and(|number: usize| layers.contains(&number))
        };
        let tensors = self.gguf.tensors.iter().map(|it| it.name.as_str());
        self.read.extend(tensors.filter(|name| is_left(name)));
    }

    /// Leaves the keys and values of a block alone, which uses those of an earlier one.
    pub fn leave_keys(&mut self, layer: usize) {
        let names = ["attn_k", "attn_v", "attn_k_norm"];
        let names = names.map(|name| format!("blk.{layer}.{name}.weight"));
        let tensors = self.gguf.tensors.iter().map(|it| it.name.as_str());
        self.read
            .extend(tensors.filter(|name| names.iter().any(|it| it == name)));
    }

    /// Reads a matrix of which only single rows are used. It is held in the type of the file.
    ///
    /// # Errors
    /// The tensor is missing, has another shape, or is of a type that cannot be read.
    pub fn table(&mut self, name: &str, rows: usize, cols: usize) -> Result<FrozenWeight> {
        let stored = self.stored(name, rows, cols)?;
        Ok(FrozenWeight::new(stored, WeightType::Quantized))
    }

    /// Leaves a matrix, of which only single rows are used, in the file.
    ///
    /// # Errors
    /// The tensor is missing, has another shape, or is of a type that cannot be read.
    pub fn file_table(&mut self, name: &str, rows: usize, cols: usize) -> Result<FileTable> {
        let tensor = self.tensor(name, rows, cols)?;
        if !can_dequantize(tensor.ggml_type) {
            return Err(self.type_flaw(tensor));
        }
        FileTable::open(tensor.clone(), cols)
    }

    /// Whether the file has this tensor.
    pub fn contains(&self, name: &str) -> bool {
        self.gguf.tensor(name).is_some()
    }

    /// Checks that every tensor has been read, since a tensor that was ignored could change what the model computes.
    ///
    /// # Errors
    /// A tensor was not read; the first one is named.
    pub fn finish(self) -> Result<()> {
        match self
            .gguf
            .tensors
            .iter()
            .find(|tensor| !self.read.contains(tensor.name.as_str()))
        {
            Some(tensor) => {
                Err(self.flaw(&tensor.name, "is not known in models of this architecture"))
            }
            None => Ok(()),
        }
    }

    /// The tensor of a matrix `[n_out, n_in]`, or of a vector, which is read from here on.
    fn tensor(&mut self, name: &str, n_out: usize, n_in: usize) -> Result<&'a TensorInfo> {
        let tensor = self.gguf.tensor(name);
        let tensor = tensor.ok_or_else(|| self.flaw(name, "is missing"))?;
        // ggml gives the fastest-varying dimension first.
        let shape = [n_in as u64, n_out as u64];
        let is_vector = n_out == 1 && tensor.shape == shape[..1];
        if tensor.shape != shape && !is_vector {
            let reason = format!("has the shape {:?}, expected {shape:?}", tensor.shape);
            return Err(self.flaw(name, &reason));
        }
        self.read.insert(&tensor.name);
        Ok(tensor)
    }

    fn stored(&mut self, name: &str, n_out: usize, n_in: usize) -> Result<Stored> {
        let tensor = self.tensor(name, n_out, n_in)?;
        let stored = Stored::new(tensor.ggml_type, self.gguf.read(tensor)?, n_out, n_in);
        let stored = stored.ok_or_else(|| self.type_flaw(tensor))?;
        if !stored.is_finite() {
            return Err(self.flaw(name, "holds values that are not finite"));
        }
        let added = self.task.and_then(|task| {
            let pair = task.tensors.iter().find(|pair| pair.name == name)?;
            let scale = task.lora_scale(pair.rank());
            let b = pair.b.data.iter().map(|b| scale * b);
            Some((pair.a.data.clone(), b.collect()))
        });
        Ok(match added {
            Some((a, b)) => stored.adding(a, b),
            None => stored,
        })
    }

    fn type_flaw(&self, tensor: &TensorInfo) -> Error {
        let ggml_type = tensor.ggml_type;
        self.flaw(
            &tensor.name,
            &format!("is of type {ggml_type}, which cannot be trained on"),
        )
    }

    fn flaw(&self, name: &str, reason: &str) -> Error {
        Error::input(format_args!(
            "{}: the tensor {name} {reason}",
            self.gguf.path.display()
        ))
    }
}
