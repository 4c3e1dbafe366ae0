"""Small networks of transformers' families with random weights, as folders in its format."""

FAMILIES = ('depth_anything', 'depth_anything_metric', 'dpt', 'glpn', 'zoedepth', 'zoedepth_two',
            'depth_pro')
NORMAL = {'image_mean': [0.485, 0.456, 0.406], 'image_std': [0.229, 0.224, 0.225]}


def depth_anything(t, metric, width=32):
    backbone = t.Dinov2Config(
        hidden_size=width, num_hidden_layers=4, num_attention_heads=2, patch_size=14, image_size=70,
        out_features=['stage1', 'stage2', 'stage3', 'stage4'], reshape_hidden_states=False)
    config = t.DepthAnythingConfig(
        backbone_config=backbone, reassemble_hidden_size=width, neck_hidden_sizes=[8, 8, 16, 16],
        fusion_hidden_size=16, head_hidden_size=8,
        **({'depth_estimation_type': 'metric', 'max_depth': 20} if metric else {}))
    return t.DepthAnythingForDepthEstimation(config), t.DPTImageProcessor(
        size={'height': 70, 'width': 70}, ensure_multiple_of=14, keep_aspect_ratio=True,
        resample=3, **NORMAL)


def dpt(t):
    config = t.DPTConfig(
        hidden_size=32, num_hidden_layers=4, num_attention_heads=2, intermediate_size=64,
        image_size=64, backbone_out_indices=[0, 1, 2, 3], neck_hidden_sizes=[8, 8, 16, 16],
        fusion_hidden_size=16)
    return t.DPTForDepthEstimation(config), t.DPTImageProcessor(
        size={'height': 64, 'width': 64}, resample=3)


def glpn(t):
    config = t.GLPNConfig(depths=[1] * 4, hidden_sizes=[8, 16, 24, 32],
                          num_attention_heads=[1, 2, 3, 4], decoder_hidden_size=16)
    return t.GLPNForDepthEstimation(config), t.GLPNImageProcessor()


def zoedepth(t, heads):
    backbone = t.BeitConfig(
        hidden_size=32, num_hidden_layers=4, num_attention_heads=2, intermediate_size=64,
        image_size=64, out_indices=[1, 2, 3, 4], reshape_hidden_states=False,
        use_relative_position_bias=True)
    bins = [{'n_bins': 8, 'min_depth': 0.001, 'max_depth': 10.0, 'name': 'nyu'},
            {'n_bins': 8, 'min_depth': 0.001, 'max_depth': 80.0, 'name': 'kitti'}]
    config = t.ZoeDepthConfig(
        backbone_config=backbone, neck_hidden_sizes=[8, 8, 16, 16], fusion_hidden_size=16,
        bottleneck_features=16, num_relative_features=8, bin_embedding_dim=16,
        patch_transformer_hidden_size=128, patch_transformer_intermediate_size=32,
        patch_transformer_num_attention_heads=2, num_patch_transformer_layers=4,
        num_attractors=[4, 2, 2, 1], bin_configurations=bins[:heads])
    return t.ZoeDepthForDepthEstimation(config), t.ZoeDepthImageProcessor(
        size={'height': 64, 'width': 96}, ensure_multiple_of=32)


def depth_pro(t):
    encoder = {'model_type': 'dinov2', 'hidden_size': 32, 'num_hidden_layers': 4,
               'num_attention_heads': 2, 'patch_size': 8, 'image_size': 32}
    config = t.DepthProConfig(
        fusion_hidden_size=16, patch_size=32, image_model_config=encoder,
        patch_model_config=encoder, fov_model_config=encoder, intermediate_hook_ids=[2, 1],
        intermediate_feature_dims=[16, 16], scaled_images_feature_dims=[32, 32, 16],
        use_fov_model=True, num_fov_head_layers=2)
    return t.DepthProForDepthEstimation(config), t.DepthProImageProcessor(
        size={'height': 128, 'width': 128})


def make(name, folder):
    """Write one of FAMILIES into a folder, or ``wide``, of 200 MB.

    Its depth differs from place to place, and is above 0.
    """
    import torch
    import transformers as t
    torch.manual_seed(0)
    network, pictures = {
        'depth_anything': lambda: depth_anything(t, False),
        'depth_anything_metric': lambda: depth_anything(t, True),
        'wide': lambda: depth_anything(t, True, 1024),
        'dpt': lambda: dpt(t), 'glpn': lambda: glpn(t),
        'zoedepth': lambda: zoedepth(t, 1), 'zoedepth_two': lambda: zoedepth(t, 2),
        'depth_pro': lambda: depth_pro(t)}[name]()
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 1.2 / max(1, parameter[0].numel()) ** 0.5)
        # the last convolution's bias keeps depth away from 0, where a ratio says nothing
        last = [p for key, p in network.named_parameters()
                if key.startswith(('head.', 'decoder.')) and key.endswith('bias')]
        if name in ('depth_anything', 'dpt', 'depth_pro'):
            last[-1].fill_(20.0)
        if name in ('depth_anything_metric', 'wide'):  # nor is a sigmoid of this one at its ends
            network.head.conv3.weight.mul_(0.1)
    t.utils.logging.disable_progress_bar()
    network.eval().save_pretrained(folder)
    pictures.save_pretrained(folder)
    return folder
