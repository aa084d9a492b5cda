"""Variant: (IA)3 (Liu et al. 2022, arXiv 2205.05638): a learned vector that scales a linear's output or input."""

from adapter_hub import hookimpl
from adapter_hub.errors import ShapeMismatch, UnsupportedFeature
from adapter_hub.hookspecs import Lowered, SiteSummary, Summary
from adapter_hub.updates import LinearUpdate

VECTOR = ".ia3_l"
KNOWN = {"peft_type", "task_type", "peft_version", "auto_mapping", "base_model_name_or_path", "revision"}
KNOWN |= {"inference_mode", "target_modules", "exclude_modules", "feedforward_modules", "fan_in_fan_out"}
KNOWN |= {"modules_to_save", "init_ia3_weights"}


class Ia3:
    """One vector a site, [out, 1] for outputs or [1, in] for inputs."""

    name = "ia3"

    def matches(self, config):
        """PEFT's IA3."""
        return config.get("peft_type") == "IA3"

    def describe(self, tensors, config):
        """The sites; a vector has no rank."""
        sites = {name.removesuffix(VECTOR): SiteSummary(rank=0) for name in tensors if name.endswith(VECTOR)}
        return Summary(sites, "none: the vector is the scale", tuple(refusals(config)))

    def lower(self, tensors, config, base):
        """``out_scale``, which scales the bias too, or ``in_scale``."""
        for sentence in refusals(config):
            raise UnsupportedFeature(sentence)
        updates = {}
        for name in [name for name in tensors if name.endswith(VECTOR)]:
            path, vector = name.removesuffix(VECTOR), tensors.pop(name)
            if vector.dim() != 2 or 1 not in vector.shape or base.site(path).kind != "linear":
                raise ShapeMismatch(f"tensor {name} is {list(vector.shape)}, not a vector for a linear.")
            part = "in_scale" if vector.shape[0] == 1 else "out_scale"
            updates[path] = LinearUpdate(**{part: vector.flatten()})
        return Lowered(updates)


def refusals(config):
    """A sentence for each setting that is switched on and not known here."""
    unknown = [name for name, value in config.items() if name not in KNOWN and value not in (None, False, {}, [])]
    return [f"the setting {name}={config[name]!r} is not known to this plugin." for name in unknown]


@hookimpl
def adapter_hub_variants():
    """What this plugin brings."""
    return [Ia3()]
