import torch
from openprompt import PromptForClassification
from openprompt.plms import load_plm
from peft import AdaLoraConfig, get_peft_model
from tqdm import tqdm

from shop.prompts import basket_loader, basket_template, item_verbalizer


def second_stage(args, prompt_checkpoint):
    plm, tokenizer, _, wrapper = load_plm(args.llm, args.llm_path)
    train_loader = basket_loader(args, "train", wrapper)
    model = PromptForClassification(
        plm=plm, template=basket_template(args), verbalizer=item_verbalizer(tokenizer), freeze_plm=True
    )
    model.load_state_dict(torch.load(prompt_checkpoint, map_location=args.device))
    for name, weight in model.named_parameters():
        if "soft" in name:
            weight.requires_grad = False
    if args.with_adapter:
        adapter = AdaLoraConfig(
            peft_type="ADALORA",
            init_r=args.init_r,
            lora_alpha=args.lora_alpha,
            lora_dropout=args.lora_dropout,
            target_modules=args.targets,
        )
        model = get_peft_model(model, adapter)
    model = model.to(args.device)

    criterion = torch.nn.CrossEntropyLoss()
    optimizer = torch.optim.AdamW(
        [w for w in model.parameters() if w.requires_grad], lr=args.lr, weight_decay=1e-2
    )
    for epoch in range(args.epochs):
        running = 0.0
        for step, baskets in enumerate(tqdm(train_loader)):
            baskets = baskets.to(args.device)
            scores = model(baskets)
            loss = criterion(scores, baskets["label"])
            loss.backward()
            running += loss.item()
            optimizer.step()
            optimizer.zero_grad()
            if step % 100 == 99:
                print(epoch, step, running / (step + 1))
    torch.save(model.state_dict(), args.out)
