# For those who stand in a clone: the index is workflow/Snakefile. `include:` would forget that `rule all` is the target.
workflow.include("workflow/Snakefile", overwrite_default_target=True)
