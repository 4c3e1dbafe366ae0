"""What stands in which kind of room, and which surfaces it has."""

FLOORS = ('floor_wood', 'floor_tile', 'floor_carpet', 'floor_concrete')
WALLS = ('paint', 'paint', 'paint', 'plaster', 'wall_tile', 'brick')

# What stands in which room. Each entry: how many at least, at most; of which kinds.
# wall: backs to a wall; middle: anywhere; sets: a table or desk with what belongs to it.
# high: of the ceiling, m, where it is not USUAL_HEIGHT.
USUAL_HEIGHT = (2.35, 3.2)
KINDS: dict[str, dict] = {
    'living room': {
        'share': 5, 'sides': ((3.2, 7.0), (3.0, 6.0)),
        'sets': (((1, 2), 'sofa'), ((0, 1), 'television'), ((0, 1), 'dining'),
                 ((0, 1), 'shelving')),
        'wall': (((1, 3), ('SimpleBookcase', 'LargeShelf', 'CellShelf', 'SingleCabinet')),
                 ((0, 2), ('FloorLamp', 'SnakePlant', 'LargePlantContainer', 'ArmChair'))),
        'middle': ((0, 2), ('ArmChair', 'Chair')), 'clutter': (0, 4), 'rug': 0.6},
    'bedroom': {
        'share': 4, 'sides': ((2.8, 4.8), (2.8, 4.5)),
        'sets': (((1, 1), 'bed'), ((0, 1), 'desk'), ((0, 1), 'television'), ((0, 1), 'shelving')),
        'wall': (((1, 2), ('SingleCabinet', 'SimpleBookcase', 'KitchenCabinet')),
                 ((0, 2), ('FloorLamp', 'SnakePlant', 'TriangleShelf'))),
        'middle': ((0, 1), ('ArmChair',)), 'clutter': (0, 5), 'rug': 0.5},
    'office': {
        'share': 4, 'sides': ((2.8, 7.0), (2.8, 6.0)),
        'sets': (((1, 4), 'desk'), ((0, 1), 'meeting'), ((0, 2), 'shelving')),
        'wall': (((1, 4), ('LargeShelf', 'SimpleBookcase', 'CellShelf', 'SingleCabinet')),
                 ((0, 2), ('SnakePlant', 'FloorLamp'))),
        'middle': ((0, 2), ('OfficeChair',)), 'clutter': (0, 4), 'rug': 0.15},
    'kitchen': {
        'share': 4, 'sides': ((2.4, 5.5), (2.6, 5.0)),
        'sets': (((1, 2), 'counter'), ((0, 1), 'dining'), ((0, 1), 'island')),
        'wall': (((1, 2), ('BeverageFridge', 'Oven', 'Dishwasher')),
                 ((0, 1), ('SingleCabinet', 'LargeShelf'))),
        'middle': ((0, 2), ('BarChair', 'Chair')), 'clutter': (0, 3), 'rug': 0.15},
    'dining room': {
        'share': 2, 'sides': ((3.0, 5.5), (3.0, 5.0)),
        'sets': (((1, 1), 'dining'),),
        'wall': (((1, 3), ('SingleCabinet', 'SimpleBookcase', 'CellShelf')),
                 ((0, 2), ('SnakePlant', 'FloorLamp', 'Chair'))),
        'middle': ((0, 0), ('Chair',)), 'clutter': (0, 2), 'rug': 0.5},
    'corridor': {
        'share': 3, 'sides': ((4.0, 11.0), (1.3, 2.4)),
        'sets': (), 'wall': (((0, 4), ('SingleCabinet', 'TriangleShelf', 'Chair', 'CellShelf',
                                       'SnakePlant', 'SimpleBookcase')),),
        'middle': ((0, 0), ('Chair',)), 'clutter': (0, 3), 'rug': 0.2},
    'bathroom': {
        'share': 1, 'sides': ((1.8, 3.4), (1.8, 3.2)),
        'sets': (), 'wall': (((1, 1), ('Toilet',)), ((1, 1), ('StandingSink',)),
                             ((0, 1), ('Bathtub',)), ((0, 1), ('SingleCabinet',))),
        'middle': ((0, 0), ('Chair',)), 'clutter': (0, 2), 'rug': 0.3},
    'storage room': {
        'share': 2, 'sides': ((2.6, 6.5), (2.4, 6.0)),
        'sets': (((1, 4), 'shelving'),),
        'wall': (((2, 5), ('LargeShelf', 'SimpleBookcase', 'CellShelf')),),
        'middle': ((0, 3), ('Pallet', 'Chair', 'BarChair')), 'clutter': (3, 10), 'rug': 0.0},
    'bare room': {
        'share': 2, 'sides': ((2.5, 8.0), (2.5, 6.0)),
        'sets': (), 'wall': (((0, 1), ('Chair', 'FloorLamp', 'LargeShelf')),),
        'middle': ((0, 1), ('Chair', 'OfficeChair', 'BarChair')), 'clutter': (0, 2), 'rug': 0.1},
    'loft': {
        'share': 4, 'sides': ((5.5, 11.0), (4.5, 8.5)), 'high': (2.7, 4.6),
        'sets': (((1, 2), 'sofa'), ((1, 1), 'dining'), ((0, 1), 'counter'), ((0, 1), 'island'),
                 ((0, 2), 'desk'), ((0, 1), 'television')),
        'wall': (((3, 8), ('SimpleBookcase', 'LargeShelf', 'CellShelf', 'SingleCabinet',
                           'KitchenCabinet')),
                 ((1, 4), ('FloorLamp', 'LargePlantContainer', 'SnakePlant', 'ArmChair'))),
        'middle': ((1, 4), ('ArmChair', 'Chair', 'BarChair', 'LargePlantContainer')),
        'clutter': (1, 6), 'rug': 0.7},
    'studio': {
        'share': 3, 'sides': ((3.5, 6.0), (3.2, 5.0)),
        'sets': (((1, 1), 'bed'), ((0, 1), 'desk'), ((0, 1), 'sofa'), ((0, 1), 'counter'),
                 ((0, 1), 'television')),
        'wall': (((2, 5), ('SimpleBookcase', 'LargeShelf', 'CellShelf', 'SingleCabinet',
                           'TriangleShelf')),
                 ((0, 3), ('FloorLamp', 'LargePlantContainer', 'Chair'))),
        'middle': ((0, 2), ('ArmChair', 'Chair')), 'clutter': (2, 7), 'rug': 0.6},
    'classroom': {
        'share': 2, 'sides': ((5.0, 10.0), (4.5, 8.0)), 'high': (2.6, 3.6),
        'sets': (((2, 6), 'meeting'), ((0, 2), 'desk')),
        'wall': (((1, 4), ('SingleCabinet', 'LargeShelf', 'CellShelf', 'SimpleBookcase')),
                 ((0, 2), ('Chair', 'SnakePlant', 'LargePlantContainer'))),
        'middle': ((0, 4), ('Chair', 'OfficeChair')), 'clutter': (0, 3), 'rug': 0.05},
    'workshop': {
        'share': 2, 'sides': ((4.0, 9.0), (3.5, 8.0)), 'high': (2.7, 5.0),
        'sets': (((1, 3), 'desk'), ((0, 1), 'counter'), ((0, 1), 'meeting'), ((0, 3), 'shelving')),
        'wall': (((2, 7), ('LargeShelf', 'CellShelf', 'SimpleBookcase', 'SingleCabinet')),),
        'middle': ((1, 5), ('Pallet', 'Chair', 'BarChair', 'OfficeChair')),
        'clutter': (4, 14), 'rug': 0.0},
    'lobby': {
        'share': 2, 'sides': ((5.5, 12.0), (4.0, 9.0)), 'high': (2.7, 4.6),
        'sets': (((1, 3), 'sofa'), ((0, 1), 'meeting'), ((0, 1), 'island')),
        'wall': (((1, 4), ('ArmChair', 'LargePlantContainer', 'SingleCabinet', 'Chair')),
                 ((0, 2), ('FloorLamp', 'CellShelf'))),
        'middle': ((1, 4), ('ArmChair', 'LargePlantContainer')), 'clutter': (0, 3), 'rug': 0.5},
    'warehouse': {
        'share': 3, 'sides': ((12.0, 40.0), (8.0, 25.0)), 'high': (3.5, 10.0),
        'sets': (((1, 1), 'racks'), ((0, 6), 'stack'), ((0, 1), 'marks'), ((0, 1), 'columns')),
        'wall': (((0, 3), ('LargeShelf', 'CellShelf')),),
        'middle': ((0, 6), ('Pallet',)), 'clutter': (0, 10), 'rug': 0.0},
    'gym': {
        'share': 2, 'sides': ((14.0, 35.0), (9.0, 22.0)), 'high': (4.5, 10.0),
        'sets': (((0, 1), 'marks'), ((0, 6), 'benches'), ((0, 2), 'stack')),
        'wall': (((0, 4), ('SingleCabinet', 'Chair')),),
        'middle': ((0, 4), ('Chair', 'BarChair')), 'clutter': (0, 3), 'rug': 0.0},
    'great hall': {
        'share': 3, 'sides': ((10.0, 30.0), (8.0, 20.0)), 'high': (2.8, 8.0),
        'sets': (((0, 1), 'columns'), ((0, 4), 'sofa'), ((0, 3), 'meeting'), ((0, 2), 'island'),
                 ((0, 4), 'benches')),
        'wall': (((1, 6), ('ArmChair', 'LargePlantContainer', 'SingleCabinet', 'Chair')),
                 ((0, 3), ('FloorLamp', 'CellShelf'))),
        'middle': ((2, 10), ('ArmChair', 'LargePlantContainer', 'Chair')), 'clutter': (0, 5),
        'rug': 0.3},
    'long corridor': {
        'share': 3, 'sides': ((10.0, 40.0), (1.6, 3.5)), 'high': (2.3, 4.0),
        'sets': (((0, 3), 'benches'),),
        'wall': (((0, 6), ('SingleCabinet', 'Chair', 'CellShelf', 'SnakePlant', 'SimpleBookcase',
                           'LargePlantContainer')),),
        'middle': ((0, 2), ('Pallet',)), 'clutter': (0, 5), 'rug': 0.0},
}
HALLS = ('warehouse', 'gym', 'great hall', 'long corridor')
ON_TABLES = ('BookStack', 'BookColumn', 'Vase', 'DeskLamp', 'Bottle', 'Bowl', 'Cup', 'Pot',
             'FoodBox', 'Jar')
ON_DESKS = ('DeskLamp', 'BookStack', 'BookColumn', 'Cup', 'Vase')
ON_COUNTERS = ('Microwave', 'Pot', 'Jar', 'Bottle', 'FoodBox', 'Bowl', 'Pan')
ON_FLOORS = ('box', 'box', 'box', 'BookStack', 'Vase', 'Pot', 'FoodBox', 'Bottle',
             'bin', 'BasketBase')
