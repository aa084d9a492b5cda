"""The page's look: a quiet theme in system fonts, for light and dark, and the style sheets beside it."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

ASSETS = Path(__file__).parent / "assets"
CSS_FILES = [ASSETS / "page.css", ASSETS / "tabs.css"]
ICON_FILE = ASSETS / "icon.svg"
DROP_FILE = ASSETS / "drop.js"

# Fonts that are on the user's machine: the page must look the same without a network.
_SANS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif")
_MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "Liberation Mono", "monospace")


def theme() -> gr.themes.Base:
    """Stone greys and one green; flat surfaces, hairline borders."""
    base = gr.themes.Base(
        primary_hue=gr.themes.colors.teal,
        secondary_hue=gr.themes.colors.teal,
        neutral_hue=gr.themes.colors.stone,
        radius_size=gr.themes.sizes.radius_md,
        text_size=gr.themes.sizes.text_md,
        font=_quoted(_SANS),
        font_mono=_quoted(_MONO),
    )
    return base.set(**_SURFACES, **_CONTROLS)


def _quoted(names: tuple[str, ...]) -> tuple[str, ...]:
    """Font names for CSS: those of several words in quotes, keywords such as ``system-ui`` bare."""
    return tuple(f"'{name}'" if " " in name else name for name in names)


_SURFACES = {
    "body_background_fill": "*neutral_50",
    "body_background_fill_dark": "*neutral_950",
    "body_text_color": "*neutral_800",
    "body_text_color_dark": "*neutral_200",
    "body_text_color_subdued": "*neutral_500",
    "body_text_color_subdued_dark": "*neutral_400",
    "block_background_fill": "white",
    "block_background_fill_dark": "*neutral_900",
    "block_border_color": "*neutral_200",
    "block_border_color_dark": "*neutral_800",
    "border_color_primary": "*neutral_200",
    "border_color_primary_dark": "*neutral_800",
    "block_border_width": "1px",
    "block_shadow": "none",
    "block_radius": "8px",
    "container_radius": "8px",
    "block_label_background_fill": "transparent",
    "block_label_border_width": "0",
    "block_title_text_color": "*neutral_500",
    "block_title_text_color_dark": "*neutral_400",
    "block_title_text_weight": "500",
}
_CONTROLS = {
    "input_radius": "6px",
    "input_background_fill": "white",
    "input_background_fill_dark": "*neutral_900",
    "input_border_color_focus": "*primary_600",
    "input_border_color_focus_dark": "*primary_500",
    "button_primary_background_fill": "*primary_700",
    "button_primary_background_fill_dark": "*primary_700",
    "button_primary_background_fill_hover": "*primary_800",
    "button_primary_background_fill_hover_dark": "*primary_600",
    "button_primary_text_color": "white",
    "button_secondary_background_fill": "white",
    "button_secondary_background_fill_dark": "*neutral_900",
    "button_secondary_background_fill_hover": "*neutral_100",
    "button_secondary_background_fill_hover_dark": "*neutral_800",
    "button_secondary_border_color": "*neutral_300",
    "button_secondary_border_color_dark": "*neutral_700",
    "button_secondary_text_color": "*neutral_800",
    "button_secondary_text_color_dark": "*neutral_200",
    "button_border_width": "1px",
    "checkbox_background_color_selected": "*primary_700",
    "checkbox_background_color_selected_dark": "*primary_600",
    "checkbox_border_color_selected": "*primary_700",
    "checkbox_border_color_selected_dark": "*primary_600",
    "checkbox_label_background_fill": "transparent",
    "checkbox_label_background_fill_dark": "transparent",
    "checkbox_label_background_fill_hover": "*neutral_100",
    "checkbox_label_background_fill_hover_dark": "*neutral_800",
    "checkbox_label_background_fill_selected": "*primary_50",
    "checkbox_label_background_fill_selected_dark": "*neutral_800",
    "slider_color": "*primary_700",
    "slider_color_dark": "*primary_500",
}
