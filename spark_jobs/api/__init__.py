"""What `import longtail as lt` offers: functions and objects for notebooks and programs. Loaded when first used."""
