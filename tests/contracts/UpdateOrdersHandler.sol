// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {IIdentityRegistry} from "../../contracts/interfaces/IIdentityRegistry.sol";
import {IUpdateOrders} from "../../contracts/interfaces/IUpdateOrders.sol";
import {ForgeTest} from "./Forge.sol";
import {Registries} from "./Registries.sol";

/// @title Handler for the invariant tests of UpdateOrders: every action, and a model of the expected state
/// @notice Foundry calls these functions in random order. Each derives from the model whether the contract must revert
/// and with which error, calls the contract, and updates the model.
/// @dev Person `i` has the account `i + 1`: 0 to 2 are Operators, 3 and 4 Administrators, 5 a Gateway, 6 a stranger.
contract UpdateOrdersHandler is ForgeTest {
    uint256 public constant PEOPLE = 7;
    uint256 public constant GROUPS = 5;
    uint256 public constant PRODUCTS = 2;
    address public constant BLOCK_OTA = address(0xB10C);

    Registries public immutable registries;
    IUpdateOrders public immutable orders;

    /// @notice All orders that were placed, in sequence: the order with id 1 is the first.
    IUpdateOrders.Order[] internal _placed;

    bool[PEOPLE] public banned;
    bool[PEOPLE] public retired;
    uint40[PEOPLE] public bannedAt;

    IUpdateOrders.Group[GROUPS] internal _groups;
    uint64[PRODUCTS][GROUPS] internal _newest;
    mapping(uint256 product => bool) internal _allowed;

    constructor() {
        vm.warp(1_700_000_000);
        registries = new Registries();
        bytes memory arguments = abi.encode(address(registries), address(registries));
        orders = IUpdateOrders(_deploy("UpdateOrders", arguments));
        for (uint256 who = 0; who < PEOPLE - 1; ++who) registries.setAccount(uuidOf(who), kindOf(who), accountOf(who));
        allow(0, 1);
        for (uint256 which = 0; which < 3; ++which) defineGroup(8, which, which + 1);
    }

    /// @notice Defines a group, usually as an Operator; the group may be defined already.
    function defineGroup(uint256 who, uint256 which, uint256 seed) public {
        (who, which) = (_person(who), which % GROUPS);
        IUpdateOrders.GroupKind kind = IUpdateOrders.GroupKind(seed % 4);
        bytes32 value = valueOf(which, kind);
        if (seed % 16 == 15) value = 0;
        if (seed % 16 == 14) value |= bytes32(uint256(1));
        IUpdateOrders.Group storage known = _groups[which];
        bytes memory refusal = _asOperator(who);
        if (refusal.length == 0 && known.kind != IUpdateOrders.GroupKind.None) {
            bytes4 selector = IUpdateOrders.GroupDefinedAlready.selector;
            refusal = abi.encodeWithSelector(selector, nameOf(which), known.kind, known.value);
        }
        bool site = kind == IUpdateOrders.GroupKind.Site;
        if (refusal.length == 0 && (seed % 4 == 0 || value == 0 || (site && bytes16(value) != value))) {
            bytes4 selector = IUpdateOrders.InvalidGroup.selector;
            refusal = abi.encodeWithSelector(selector, nameOf(which), kind, value);
        }
        if (refusal.length == 0) {
            _groups[which] = IUpdateOrders.Group(kind, uuidOf(who), uint40(block.timestamp), value);
        }
        bytes memory call = abi.encodeCall(orders.defineGroup, (nameOf(which), kind, value));
        _expect(accountOf(who), address(orders), call, refusal);
    }

    /// @notice Orders a release, usually as an Operator; the window may be empty or over.
    function order(uint256 who, uint256 which, uint256 product, uint256 window) external {
        (who, which, product) = (_person(who), which % GROUPS, product % PRODUCTS);
        uint40 notBefore = uint40(window % 4 == 0 ? 0 : block.timestamp + _pick(window / 4, 0, 2 days));
        uint40 deadline = uint40(block.timestamp + _pick(window / 64, window % 8 == 0 ? 0 : 1, 3 days));
        bytes memory refusal = _asOperator(who);
        uint64 version = uint64(window % 16 == 0 ? 0 : window | 1);
        if (refusal.length == 0 && version == 0) {
            refusal = abi.encodeWithSelector(IUpdateOrders.VersionMissing.selector);
        }
        if (refusal.length == 0) refusal = _refusalOf(which, product, notBefore, deadline);
        bytes memory call = abi.encodeCall(
            orders.order,
            (nameOf(which), 1, BLOCK_OTA, productOf(product), version, notBefore, deadline)
        );
        _expect(accountOf(who), address(orders), call, refusal);
        if (refusal.length != 0) return;
        IUpdateOrders.Order storage one = _placed.push();
        one.id = uint64(_placed.length);
        one.version = version;
        one.operator = uuidOf(who);
        (one.notBefore, one.deadline, one.placedAt) = (notBefore, deadline, uint40(block.timestamp));
        one.status = IUpdateOrders.Status.Open;
        _newest[which][product] = one.id;
    }

    /// @notice Cancels an order, usually the current one, as any person.
    function cancel(uint256 who, uint256 which, uint256 product, uint256 seed) external {
        (who, which, product) = (seed % 2 == 0 ? _person(who) : who % PEOPLE, which % GROUPS, product % PRODUCTS);
        IUpdateOrders.Order memory one = expected(which, product);
        uint64 id = seed % 8 == 0 ? uint64(_pick(seed / 8, 0, _placed.length + 1)) : one.id;
        bytes memory refusal;
        if (id != one.id) {
            refusal = abi.encodeWithSelector(IUpdateOrders.OrderDiffers.selector, id, one.id);
        } else if (one.status != IUpdateOrders.Status.Open) {
            refusal = abi.encodeWithSelector(IUpdateOrders.WrongOrderStatus.selector, id, one.status);
        } else if (!isActive(who) || (uuidOf(who) != one.operator && who != 3 && who != 4)) {
            refusal = abi.encodeWithSelector(IUpdateOrders.CancellingNotAllowed.selector, id, accountOf(who));
        } else {
            _placed[id - 1].status = IUpdateOrders.Status.Cancelled;
        }
        bytes memory call = abi.encodeCall(orders.cancel, (nameOf(which), 1, BLOCK_OTA, productOf(product), id));
        _expect(accountOf(who), address(orders), call, refusal);
    }

    /// @notice Lets the Spec of the model list a product, or removes it from the list.
    function allow(uint256 product, uint256 seed) public {
        product %= PRODUCTS;
        _allowed[product] = seed % 4 != 0;
        bytes32 specHash = valueOf(0, IUpdateOrders.GroupKind.Model);
        registries.setAllowed(specHash, 1, BLOCK_OTA, productOf(product), _allowed[product]);
    }

    /// @notice Bans an identity seldom, or lifts its ban.
    function ban(uint256 who, uint256 seed) external {
        who %= PEOPLE - 1;
        banned[who] = seed % 4 == 0;
        if (banned[who]) bannedAt[who] = uint40(block.timestamp);
        registries.setBanned(uuidOf(who), banned[who]);
    }

    /// @notice Retires an identity very seldom.
    function retire(uint256 who, uint256 seed) external {
        if (seed % 32 != 0) return;
        who %= PEOPLE - 1;
        retired[who] = true;
        registries.retire(uuidOf(who));
    }

    /// @notice Advances the time by at most a day, often not at all.
    function warp(uint256 time) external {
        vm.warp(block.timestamp + (time % 2 == 0 ? 0 : _pick(time, 0, 1 days)));
    }

    /// @notice Returns the expected order of a group and a product.
    function expected(uint256 which, uint256 product) public view returns (IUpdateOrders.Order memory one) {
        uint64 id = _newest[which][product];
        if (id == 0) return one;
        one = _placed[id - 1];
        if (one.status != IUpdateOrders.Status.Open) return one;
        if (one.deadline <= block.timestamp) one.status = IUpdateOrders.Status.Expired;
        else if (bannedAt[_personOf(one.operator)] >= one.placedAt) one.status = IUpdateOrders.Status.Void;
    }

    function group(uint256 which) external view returns (IUpdateOrders.Group memory) {
        return _groups[which];
    }

    function placed() external view returns (uint256) {
        return _placed.length;
    }

    function isActive(uint256 who) public view returns (bool) {
        return who < PEOPLE - 1 && !banned[who] && !retired[who];
    }

    function kindOf(uint256 who) public pure returns (IIdentityRegistry.Kind) {
        if (who < 3) return IIdentityRegistry.Kind.Operator;
        if (who < 5) return IIdentityRegistry.Kind.Administrator;
        return who == 5 ? IIdentityRegistry.Kind.Gateway : IIdentityRegistry.Kind.None;
    }

    function uuidOf(uint256 who) public pure returns (bytes16) {
        return who == PEOPLE - 1 ? bytes16(0) : bytes16(uint128(who + 1));
    }

    function accountOf(uint256 who) public pure returns (address) {
        return address(uint160(who + 1000));
    }

    function nameOf(uint256 which) public pure returns (bytes32) {
        return bytes32(abi.encodePacked("group-", bytes1(uint8(0x30 + which))));
    }

    function productOf(uint256 product) public pure returns (bytes32) {
        return product == 0 ? bytes32("acme-thermo2") : bytes32("acme-pump");
    }

    /// @notice The value of a group: all groups by model have one model.
    function valueOf(uint256 which, IUpdateOrders.GroupKind kind) public pure returns (bytes32) {
        if (kind == IUpdateOrders.GroupKind.Model) return keccak256("thermo2");
        if (kind == IUpdateOrders.GroupKind.Site) return bytes32(bytes16(uint128(which + 1)));
        return keccak256(abi.encode(which));
    }

    function _refusalOf(
        uint256 which,
        uint256 product,
        uint40 notBefore,
        uint40 deadline
    ) private view returns (bytes memory) {
        if (deadline <= block.timestamp) {
            return abi.encodeWithSelector(IUpdateOrders.DeadlineInPast.selector, deadline, block.timestamp);
        }
        if (notBefore >= deadline) {
            return abi.encodeWithSelector(IUpdateOrders.WindowEmpty.selector, notBefore, deadline);
        }
        IUpdateOrders.GroupKind kind = _groups[which].kind;
        if (kind == IUpdateOrders.GroupKind.None) {
            return abi.encodeWithSelector(IUpdateOrders.GroupUnknown.selector, nameOf(which));
        }
        if (kind == IUpdateOrders.GroupKind.Model && !_allowed[product]) {
            bytes4 selector = IUpdateOrders.ProductNotAllowed.selector;
            return abi.encodeWithSelector(selector, nameOf(which), 1, BLOCK_OTA, productOf(product));
        }
        IUpdateOrders.Order memory open = expected(which, product);
        if (open.status != IUpdateOrders.Status.Open) return "";
        bytes4 still = IUpdateOrders.OrderStillOpen.selector;
        return abi.encodeWithSelector(still, open.id, open.version, open.operator, open.deadline);
    }

    function _asOperator(uint256 who) private view returns (bytes memory) {
        if (who < 3 && isActive(who)) return "";
        bytes4 selector = IUpdateOrders.NotAnOperator.selector;
        return abi.encodeWithSelector(selector, accountOf(who), kindOf(who), isActive(who));
    }

    function _person(uint256 seed) private pure returns (uint256) {
        return seed % 4 == 1 ? (seed / 4) % PEOPLE : (seed / 4) % 3;
    }

    function _personOf(bytes16 uuid) private pure returns (uint256) {
        return uint256(uint128(uuid)) - 1;
    }
}
