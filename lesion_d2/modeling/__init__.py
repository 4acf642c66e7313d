"""Parts of the network that are not as in Detectron2; configs name them."""

from lesion_d2.modeling import roi_align as roi_align
from lesion_d2.modeling import timm_backbone as timm_backbone
from lesion_d2.modeling import unet as unet
