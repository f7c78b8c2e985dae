"""The names of the files in the directory of a report."""

PAGE_FILE = "report.html"
IMAGES_FILE = "images.html"
TRIALS_FILE = "trials.parquet"
CSV_FILE = "scores.csv"
LATEX_FILE = "scores.tex"
