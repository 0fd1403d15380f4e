"""Everything that imports torch: capture, swapped modules, the custom operator."""
