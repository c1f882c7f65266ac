"""seg: semantic segmentation for imbalanced masks, from mask files to class weights to per-class IoU."""
