import streamlit as st

from playground.models import load_base
from playground.training import train_once
from playground.plots import compare

try:
    from peft import AdaLoraConfig, TaskType, get_peft_model
    AVAILABLE = True
except ImportError:
    AVAILABLE = False
    st.warning("This version of peft has no AdaLoRA.")

st.set_page_config(page_title="AdaLoRA", layout="wide")
st.title("AdaLoRA: a rank for every matrix")

left, right = st.columns(2)
with left:
    start = st.slider("rank at the start", 4, 32, 12)
    end = st.slider("average rank at the end", 1, 16, 6)
    alpha = st.slider("lora_alpha", 8, 64, 32, step=8)
with right:
    steps = st.number_input("optimizer steps", 50, 2000, 300)
    warm = st.number_input("warm-up steps", 0, 500, 30)
    final = st.number_input("final steps", 1, 500, 60)

if AVAILABLE and st.button("Train"):
    if start <= end:
        st.error("The rank at the start must be larger.")
        st.stop()
    config = AdaLoraConfig(
        task_type=TaskType.CAUSAL_LM,
        init_r=start,
        target_r=end,
        lora_alpha=alpha,
        tinit=int(warm),
        tfinal=int(final),
        total_step=int(steps),
    )
    model = get_peft_model(load_base(), config)
    history = train_once(model, steps=int(steps))
    st.pyplot(compare(history))
