import logging

from transformers import AutoTokenizer, T5ForConditionalGeneration


class TrajectoryWriter:
    def __init__(self, args, logger: logging.Logger):
        self.args = args
        self.logger = logger
        self.tokenizer = AutoTokenizer.from_pretrained(args.checkpoint)
        self.model = T5ForConditionalGeneration.from_pretrained(args.checkpoint)
        self._adapt(args.mode)

    def _adapt(self, mode):
        if mode == "full":
            return
        if mode == "prompt":
            from peft import PromptTuningConfig, TaskType, get_peft_model
            config = PromptTuningConfig(task_type=TaskType.SEQ_2_SEQ_LM, num_virtual_tokens=256)
        elif mode == "lora":
            from peft import LoraConfig, TaskType, get_peft_model
            config = LoraConfig(r=256, lora_alpha=256, task_type=TaskType.SEQ_2_SEQ_LM, bias="lora_only")
        elif mode == "adalora":
            from peft import AdaLoraConfig, TaskType, get_peft_model
            config = AdaLoraConfig(r=256, init_r=256, tinit=512, tfinal=2048, deltaT=10,
                                   fan_in_fan_out=True, task_type=TaskType.SEQ_2_SEQ_LM)
        elif mode == "ia3":
            from peft import IA3Config, TaskType, get_peft_model
            config = IA3Config(task_type=TaskType.SEQ_2_SEQ_LM)
        else:
            raise ValueError(mode)
        self.model = get_peft_model(self.model, config)
        self.logger.info("%s: %s", mode, self.model.get_nb_trainable_parameters())

    def write(self, state: str) -> str:
        ids = self.tokenizer(state, return_tensors="pt").input_ids.to(self.model.device)
        return self.tokenizer.decode(self.model.generate(input_ids=ids, max_new_tokens=64)[0])
