"""Save and load the adapters of a model, in a folder or on the Hub."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import nn

from adalora_core.sharding.layout import reshard
from adalora_core.training import hub, saving
from adalora_core.training.adapter_file.folder import DEFAULT_ADAPTER, folder_of
from adalora_core.training.host import model_around
from adalora_core.training.hub import write_card
from adalora_core.training.lora_export import export_adapter
from adalora_core.training.run.reporting import refuse_other_than_module
from adalora_core.training.run_end import judge_choice

if TYPE_CHECKING:
    import os

    from adalora_core.config.model import AdaLoraConfig
    from adalora_core.training.tuner import AdaLoraTuner


class AdapterFiles(nn.Module):
    """The methods of `AdaLoraModel` that read and write adapters."""

    base_model: AdaLoraTuner

    def save_pretrained(
        self,
        save_directory: str | os.PathLike[str],
        *,
        selected_adapters: Sequence[str] | None = None,
        save_training_state: bool | None = None,
        **kwargs: Any,
    ) -> None:
        """Write adapters in PEFT's format, without dropped triplets.

        The files describe what the model computes: a dropped triplet whose singular value is not
        zero any more is written. Files are replaced after all new ones are on disk. A `README.md`
        in `save_directory` describes the first adapter; the text of one that is there stays.

        Args:
            save_directory: folder of the adapter `default`; others get a subfolder of their name.
            selected_adapters: names of the adapters to write; None means all.
            save_training_state: also write what a resumed run needs to continue bit for bit; None
                means yes while a run is unfinished.
            kwargs: PEFT's `safe_serialization`, `is_main_process`, `save_embedding_layers` ("auto":
                if the vocabulary was resized) and `state_dict`. Under FSDP2 every process must
                call; with `state_dict`, the whole tensors of `model.state_dict()`, one process
                writes the adapter alone.

        Raises:
            ValueError: no such adapter, an option that would write something else, the folder is a
                file, or the subfolder of an adapter is outside of it; nothing was written.
            OSError: the disk is full or not writable; nothing was replaced.
        """
        reshard(self)
        is_main_process = kwargs.pop("is_main_process", True)
        gathered = kwargs.pop("state_dict", None)
        if not kwargs.pop("safe_serialization", True):
            raise ValueError(
                "save_pretrained: safe_serialization=False would write a pickle, which can run "
                "code when it is loaded; adapters are saved as safetensors"
            )
        embeddings = kwargs.pop("save_embedding_layers", "auto")
        if kwargs.pop("path_initial_model_for_weight_conversion", None) is not None:
            raise ValueError(
                "save_pretrained: path_initial_model_for_weight_conversion is for initialisations "
                "of LoRA; use export_lora()"
            )
        if Path(save_directory).is_file():
            raise ValueError(f"save_pretrained: {str(save_directory)!r} is a file, not a folder")
        adapters = self.base_model.adapters
        selected = list(adapters if selected_adapters is None else selected_adapters)
        if unknown := [name for name in selected if name not in adapters]:
            raise ValueError(f"save_pretrained: no adapter {unknown[0]!r}; there are {[*adapters]}")
        folders = {name: folder_of(save_directory, name) for name in selected}
        judge_choice([adapters[name] for name in selected], adapters.values())
        options = (save_training_state, is_main_process, gathered, embeddings)
        for name, folder in folders.items():
            # One card for all adapters, as in PEFT.
            card = Path(save_directory) if name == selected[0] else None
            saving.save_adapter(self.base_model, name, folder, card, *options)

    def export_lora(
        self,
        save_directory: str | os.PathLike[str],
        adapter_name: str | None = None,
        *,
        pad_ranks: bool = False,
    ) -> None:
        """Write an adapter as plain LoRA: `lora_A = A · E · scale`, `lora_B = B`, the same outputs.

        Every module gets its own rank and alpha; modules at rank 0 are not written. PEFT and
        servers for LoRA load the folder.

        Args:
            save_directory: the folder to write; not the folder of the AdaLoRA adapter.
            adapter_name: name of the adapter; None means the first active one.
            pad_ranks: give every module the largest rank, with zeros, for loaders that take one
                rank and one alpha for all modules (TensorRT-LLM, llama.cpp).

        Raises:
            CheckpointError: no triplet is left.
            TargetError: a layer, such as a grouped convolution, cannot be written as LoRA.
            OSError: the folder cannot be written; nothing was replaced.
        """
        export_adapter(
            self.base_model,
            adapter_name or self.base_model.active_adapters[0],
            save_directory,
            pad_ranks=pad_ranks,
        )

    def create_or_update_model_card(self, output_dir: str | os.PathLike[str]) -> None:
        """Write a `README.md` that describes the adapter, or update the metadata of the one there.

        Raises:
            OSError: the folder cannot be written.
        """
        names = self.base_model.active_adapters or list(self.base_model.adapters)
        config = self.base_model.adapters[names[0]].config
        write_card(Path(output_dir), config, self.base_model.model)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        commit_message: str | None = None,
        commit_description: str | None = None,
        private: bool | None = None,
        token: bool | str | None = None,
        revision: str | None = None,
        create_pr: bool = False,
        tags: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Upload the adapters and their model card to the Hub; the base model stays here.

        Args:
            repo_id: the repository, which is made if there is none.
            commit_message: first line of the commit.
            commit_description: the rest of its message.
            private: whether a new repository is private; None means the default of its owner.
            token: token of the Hub; None means the one of the login.
            revision: branch to upload to; made if there is none.
            create_pr: open a pull request instead of changing the branch.
            tags: more tags for the model card.
            kwargs: arguments of `save_pretrained`.

        Returns:
            What `huggingface_hub` reports about the commit.

        Raises:
            MissingExtraError: `huggingface_hub` is not installed.
            OSError: the Hub refused, or cannot be reached.
        """
        # PEFT's models ignore the size of a shard: an adapter is one file.
        kwargs.pop("max_shard_size", None)
        return hub.push_folder(
            lambda folder: self.save_pretrained(folder, **kwargs),
            repo_id,
            commit_message=commit_message or "Upload adapter",
            commit_description=commit_description,
            private=private,
            token=token,
            revision=revision,
            create_pr=create_pr,
            tags=tags,
        )

    @classmethod
    def from_pretrained(
        cls,
        model: nn.Module,
        model_id: str | os.PathLike[str],
        adapter_name: str = DEFAULT_ADAPTER,
        is_trainable: bool = False,
        config: AdaLoraConfig | None = None,
        **options: Any,
    ) -> Self:
        """Return `model` with an adapter that PEFT or this package has written.

        Everything is checked before `model` is changed. A base model whose trained adapter has the
        same name keeps that adapter, which an optimizer may hold: it gets the saved values and the
        training state, stays trainable, and the model around it is returned.

        Args:
            model: the base model.
            model_id: a folder, or the id of a model of the Hub.
            adapter_name: name of the adapter in `model`.
            is_trainable: whether training goes on; with the training state, if there is one.
            config: the configuration to use instead of the one in the folder.
            options: as for `load_adapter`.

        Raises:
            CheckpointError: the adapter is missing, incomplete, damaged or for another model.
            ConfigError: the configuration breaks the contract.

        Example:
            >>> import tempfile, torch
            >>> from adalora_core import AdaLoraConfig, AdaLoraModel, get_peft_model
            >>> config = AdaLoraConfig(total_step=10, target_modules=["0"])
            >>> model = get_peft_model(torch.nn.Sequential(torch.nn.Linear(4, 4)), config)
            >>> base = torch.nn.Sequential(torch.nn.Linear(4, 4))
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     model.save_pretrained(folder)
            ...     loaded = AdaLoraModel.from_pretrained(base, folder)
            >>> loaded.active_adapters
            ['default']
        """
        refuse_other_than_module(model)
        around = model_around(model)
        is_own = isinstance(around, AdapterFiles)
        adapter = around.base_model.adapters.get(adapter_name) if is_own else None
        wrapped: Any = cls(model) if adapter is None or not adapter.is_trainable else around
        wrapped.load_adapter(
            model_id, adapter_name, is_trainable=is_trainable, config=config, **options
        )
        wrapped.set_adapter(adapter_name)
        return wrapped if is_trainable else wrapped.eval()  # type: ignore[no-any-return]

    def load_adapter(
        self,
        model_id: str | os.PathLike[str],
        adapter_name: str,
        is_trainable: bool = False,
        torch_device: str | torch.device | None = None,
        autocast_adapter_dtype: bool = True,
        ephemeral_gpu_offload: bool = False,
        low_cpu_mem_usage: bool = False,
        key_mapping: Mapping[str, str] | None = None,
        *,
        config: AdaLoraConfig | None = None,
        ignore_mismatched_sizes: bool = False,
        **location: Any,
    ) -> None:
        """Add an adapter, or give an existing adapter the values of the files.

        Args:
            model_id: a folder, or the id of a model of the Hub.
            adapter_name: name of the adapter.
            is_trainable: whether training goes on; with the training state, if there is one.
            torch_device: changes nothing: factors are on the devices of their base layers.
            autocast_adapter_dtype: float32 factors on a base in bfloat16 or float16.
            ephemeral_gpu_offload: changes nothing: no adapter is kept off its device.
            low_cpu_mem_usage: changes nothing: factors are made once, with the values of the file.
            key_mapping: refused.
            config: the configuration to use instead of the one in the folder.
            ignore_mismatched_sizes: refused.
            location: `subfolder`, `revision`, `token`, `cache_dir`, `local_files_only` and
                `force_download`, as in `huggingface_hub`.

        Raises:
            CheckpointError: the adapter is missing, incomplete, damaged or for another model.
            ConfigError: the configuration breaks the contract.
            ParallelismError: the factors are divided over processes, and the file has fewer
                triplets, or the adapter is new.
            ValueError: an option would load something else than the file.
        """
        del torch_device, ephemeral_gpu_offload, low_cpu_mem_usage
        reshard(self)
        if key_mapping or ignore_mismatched_sizes:
            option = "key_mapping" if key_mapping else "ignore_mismatched_sizes"
            raise ValueError(
                f"load_adapter: {option} is not supported: tensors that do not fit the model by "
                "name and shape are an error, since an adapter with gaps computes something else"
            )
        existing = self.base_model.adapters.get(adapter_name)
        learns = is_trainable if existing is None else existing.is_trainable
        saving.load_adapter(
            self.base_model,
            hub.adapter_folder(model_id, with_state=learns, **location),
            adapter_name,
            learns=learns,
            autocast=autocast_adapter_dtype,
            config=config,
        )
