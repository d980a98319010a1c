// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {IIdentityRegistry} from "../../contracts/interfaces/IIdentityRegistry.sol";
import {IUpdateOrders} from "../../contracts/interfaces/IUpdateOrders.sol";
import {ForgeTest} from "./Forge.sol";
import {Registries} from "./Registries.sol";

/// @title Single calls of UpdateOrders with any values
contract UpdateOrdersFuzz is ForgeTest {
    bytes32 private constant GROUP = "thermo2-berlin";
    bytes32 private constant MODEL = "thermo2-model";
    bytes32 private constant PRODUCT = "acme-thermo2";
    address private constant BLOCK_OTA = address(0xB10C);
    bytes16 private constant OPERATOR = "operator";
    bytes16 private constant OTHER = "other operator";
    bytes16 private constant CITY = "city";

    Registries private _registries;
    IUpdateOrders private _orders;

    function setUp() external {
        vm.warp(1_700_000_000);
        _registries = new Registries();
        bytes memory arguments = abi.encode(address(_registries), address(_registries));
        _orders = IUpdateOrders(_deploy("UpdateOrders", arguments));
        _registries.setAccount(OPERATOR, IIdentityRegistry.Kind.Operator, address(this));
        _registries.setAccount(OTHER, IIdentityRegistry.Kind.Operator, address(2));
        _registries.setAccount(CITY, IIdentityRegistry.Kind.Administrator, address(3));
        _orders.defineGroup(GROUP, IUpdateOrders.GroupKind.Site, "site");
        _orders.defineGroup(MODEL, IUpdateOrders.GroupKind.Model, keccak256("thermo2"));
    }

    function testFuzz_O1_eachKindMayOrMayNot(uint8 kind, address account, bool banned, bool retired) external {
        vm.assume(account != address(this) && account != address(2) && account != address(3));
        IIdentityRegistry.Kind one = IIdentityRegistry.Kind(kind % 8);
        _registries.setAccount("someone", one, account);
        if (banned) _registries.setBanned("someone", true);
        if (retired) _registries.retire("someone");
        bool active = !banned && !retired;
        bytes memory refusal;
        if (one != IIdentityRegistry.Kind.Operator || !active) {
            refusal = abi.encodeWithSelector(IUpdateOrders.NotAnOperator.selector, account, one, active);
        }
        _expect(account, _orderCall(GROUP, 1, 0, type(uint40).max), refusal);
        _expect(account, abi.encodeCall(_orders.defineGroup, ("new", IUpdateOrders.GroupKind.List, "root")), refusal);
    }

    function testFuzz_O3_anOpenOrderIsNotReplaced(
        uint64 first,
        uint64 second,
        uint40 deadline,
        uint8 ending,
        bool otherOperator
    ) external {
        deadline = uint40(_pick(deadline, block.timestamp + 1, type(uint40).max));
        (first, second) = (first | 1, second | 1);
        require(_orders.order(GROUP, 1, BLOCK_OTA, PRODUCT, first, 0, deadline) == 1, "O3: first");
        address by = otherOperator ? address(2) : address(this);
        bytes memory call = _orderCall(GROUP, second, 0, type(uint40).max);
        bytes4 selector = IUpdateOrders.OrderStillOpen.selector;
        bytes memory open = abi.encodeWithSelector(selector, 1, first, OPERATOR, deadline);
        vm.warp(deadline - 1);
        _expect(by, call, open);
        // Another product, contract, chain or group has an order of its own.
        _orders.order(GROUP, 1, BLOCK_OTA, "acme-pump", first, 0, type(uint40).max);
        _orders.order(GROUP, 1, address(7), PRODUCT, first, 0, type(uint40).max);
        _orders.order(GROUP, 2, BLOCK_OTA, PRODUCT, first, 0, type(uint40).max);
        if (ending % 4 == 0) vm.warp(deadline);
        else if (ending % 4 == 1) _orders.cancel(GROUP, 1, BLOCK_OTA, PRODUCT, 1);
        else if (ending % 4 == 2) _registries.setBanned(OPERATOR, true);
        else _registries.retire(OPERATOR); // the order of a retired Operator stays open
        if (ending % 4 > 1) by = address(2);
        bool late = block.timestamp == type(uint40).max;
        if (late) open = abi.encodeWithSelector(IUpdateOrders.DeadlineInPast.selector, type(uint40).max, block.timestamp);
        _expect(by, call, late || ending % 4 == 3 ? open : bytes(""));
        IUpdateOrders.Order memory now_ = _current(GROUP);
        require(now_.id == (late || ending % 4 == 3 ? 1 : 5), "O3: id");
    }

    function testFuzz_O4_theCurrentOrderIsAsItWasPlaced(uint64 version, uint40 notBefore, uint40 deadline) external {
        deadline = uint40(_pick(deadline, block.timestamp + 1, type(uint40).max));
        notBefore = uint40(_pick(notBefore, 0, deadline - 1));
        version |= 1;
        require(_current(GROUP).id == 0, "O4: none");
        uint64 id = _orders.order(GROUP, 1, BLOCK_OTA, PRODUCT, version, notBefore, deadline);
        IUpdateOrders.Order memory wanted = IUpdateOrders.Order(
            id,
            version,
            OPERATOR,
            notBefore,
            deadline,
            uint40(block.timestamp),
            IUpdateOrders.Status.Open
        );
        require(keccak256(abi.encode(_current(GROUP))) == keccak256(abi.encode(wanted)), "O4");
        require(_current(MODEL).id == 0 && _orders.orderCount() == 1 && id == 1, "O4: others");
    }

    function testFuzz_O5_aReleaseHasAVersion(uint64 version) external {
        version %= 4;
        bytes memory refusal;
        if (version == 0) refusal = abi.encodeWithSelector(IUpdateOrders.VersionMissing.selector);
        _expect(address(this), _orderCall(GROUP, version, 0, type(uint40).max), refusal);
    }

    function testFuzz_O5_aWindowIsAheadAndNotEmpty(uint40 notBefore, uint40 deadline, uint40 time) external {
        (notBefore, deadline, time) = (notBefore % 8, deadline % 8, time % 8);
        vm.warp(time);
        bytes memory refusal;
        if (deadline <= time) {
            refusal = abi.encodeWithSelector(IUpdateOrders.DeadlineInPast.selector, deadline, time);
        } else if (notBefore >= deadline) {
            refusal = abi.encodeWithSelector(IUpdateOrders.WindowEmpty.selector, notBefore, deadline);
        }
        _expect(address(this), _orderCall(GROUP, 1, notBefore, deadline), refusal);
    }

    function testFuzz_O6_aModelTakesWhatItsSpecLists(uint64 chain, address blockOta, bytes32 product, uint8 same) external {
        if (same % 2 == 0) (chain, blockOta, product) = (1, BLOCK_OTA, PRODUCT);
        _registries.setAllowed(keccak256("thermo2"), 1, BLOCK_OTA, PRODUCT, true);
        bool listed = chain == 1 && blockOta == BLOCK_OTA && product == PRODUCT;
        bytes memory refusal;
        if (!listed) {
            bytes4 selector = IUpdateOrders.ProductNotAllowed.selector;
            refusal = abi.encodeWithSelector(selector, MODEL, chain, blockOta, product);
        }
        bytes memory tail = abi.encode(chain, blockOta, product, 1, 0, type(uint40).max);
        _expect(address(this), bytes.concat(abi.encodeWithSelector(_orders.order.selector, MODEL), tail), refusal);
        // A group by site has devices of several models, so the gateways check.
        _registries.setDevicesFail(true);
        _expect(address(this), bytes.concat(abi.encodeWithSelector(_orders.order.selector, GROUP), tail), "");
        refusal = abi.encodeWithSelector(IUpdateOrders.GroupUnknown.selector, bytes32("unknown"));
        bytes memory unknown = abi.encodeWithSelector(_orders.order.selector, bytes32("unknown"));
        _expect(address(this), bytes.concat(unknown, tail), refusal);
    }

    function testFuzz_O7_onlyItsOperatorOrAnAdministratorCancels(uint8 kind, address account, bool banned) external {
        vm.assume(account != address(this) && account != address(2) && account != address(3));
        _orders.order(GROUP, 1, BLOCK_OTA, PRODUCT, 1, 0, type(uint40).max);
        _registries.setAccount("someone", IIdentityRegistry.Kind(kind % 8), account);
        if (banned) _registries.setBanned("someone", true);
        bool allowed = kind % 8 == uint8(IIdentityRegistry.Kind.Administrator) && !banned;
        bytes memory refusal;
        if (!allowed) refusal = abi.encodeWithSelector(IUpdateOrders.CancellingNotAllowed.selector, 1, account);
        _expect(address(2), _cancelCall(1), abi.encodeWithSelector(IUpdateOrders.CancellingNotAllowed.selector, 1, address(2)));
        _expect(account, _cancelCall(1), refusal);
        require(_current(GROUP).status == (allowed ? IUpdateOrders.Status.Cancelled : IUpdateOrders.Status.Open), "O7");
        if (allowed) refusal = abi.encodeWithSelector(IUpdateOrders.WrongOrderStatus.selector, 1, 2);
        _expect(address(this), _cancelCall(1), allowed ? refusal : bytes(""));
    }

    function testFuzz_O7_aCallNamesTheCurrentOrder(uint64 id) external {
        _expect(address(this), _cancelCall(0), abi.encodeWithSelector(IUpdateOrders.WrongOrderStatus.selector, 0, 0));
        _orders.order(GROUP, 1, BLOCK_OTA, PRODUCT, 1, 0, type(uint40).max);
        bytes memory refusal;
        if (id != 1) refusal = abi.encodeWithSelector(IUpdateOrders.OrderDiffers.selector, id, 1);
        _expect(address(3), _cancelCall(id), refusal);
    }

    function testFuzz_O8_aBanVoidsTheOrdersForEver(uint16 before, uint16 after_, bool lifted) external {
        uint40 placedAt = uint40(block.timestamp);
        _registries.setBanned(OPERATOR, true);
        _registries.setBanned(OPERATOR, false);
        vm.warp(placedAt + 1);
        _orders.order(GROUP, 1, BLOCK_OTA, PRODUCT, 1, 0, type(uint40).max);
        require(_current(GROUP).status == IUpdateOrders.Status.Open, "O8: an earlier ban");
        vm.warp(block.timestamp + before);
        _registries.setBanned(OPERATOR, true);
        vm.warp(block.timestamp + after_);
        if (lifted) _registries.setBanned(OPERATOR, false);
        require(_current(GROUP).status == IUpdateOrders.Status.Void, "O8");
        _expect(address(3), _cancelCall(1), abi.encodeWithSelector(IUpdateOrders.WrongOrderStatus.selector, 1, 4));
        vm.warp(type(uint40).max);
        require(_current(GROUP).status == IUpdateOrders.Status.Expired, "O8: expired");
    }

    function testFuzz_O10_aGroupHasANameAndAValue(bytes32 id, uint8 length, uint8 kind, bytes32 value) external {
        IUpdateOrders.GroupKind one = IUpdateOrders.GroupKind(kind % 4);
        if (length % 2 == 0) value = bytes32(bytes16(value));
        if (length % 3 == 0) value = 0;
        bool good = true;
        for (uint256 i = 0; i < 32; ++i) {
            // Visible characters up to the length, in most of the runs.
            uint8 character = i < length % 34 ? uint8(_pick(uint8(id[i]), 33, length > 200 ? 128 : 126)) : 0;
            id = bytes32((uint256(id) & ~(0xFF << (248 - 8 * i))) | (uint256(character) << (248 - 8 * i)));
            good = good && character < 127;
        }
        good = good && length % 34 != 0 && length % 34 < 32;
        bytes memory refusal;
        if (!good) {
            refusal = abi.encodeWithSelector(IUpdateOrders.GroupNameInvalid.selector, id);
        } else if (kind % 4 == 0 || value == 0 || (kind % 4 == 2 && bytes32(bytes16(value)) != value)) {
            refusal = abi.encodeWithSelector(IUpdateOrders.InvalidGroup.selector, id, one, value);
        }
        _expect(address(this), abi.encodeCall(_orders.defineGroup, (id, one, value)), refusal);
        if (refusal.length != 0) return;
        IUpdateOrders.Group memory group = _orders.group(id);
        require(group.kind == one && group.value == value && group.operator == OPERATOR, "O10");
        require(group.definedAt == block.timestamp, "O10: time");
        refusal = abi.encodeWithSelector(IUpdateOrders.GroupDefinedAlready.selector, id, one, value);
        _expect(address(2), abi.encodeCall(_orders.defineGroup, (id, one, ~value)), refusal);
    }

    function testFuzz_O9_itTakesNoEther(uint64 amount, bytes calldata data) external {
        vm.deal(address(this), amount);
        (bool done, ) = address(_orders).call{value: amount}("");
        require(!done, "O9: without data");
        bytes memory good = _orderCall(GROUP, 1, 0, type(uint40).max);
        bytes[3] memory calls = [data, good, abi.encodeCall(_orders.group, (GROUP))];
        for (uint256 i = 0; i < 3 && amount != 0; ++i) {
            (done, ) = address(_orders).call{value: amount}(calls[i]);
            require(!done && address(_orders).balance == 0, "O9");
        }
    }

    function testFuzz_itIsDeployedBesideRegistries(address account) external {
        bool code = account.code.length != 0;
        (bool done, ) = address(this).call(abi.encodeCall(this.deploy, (account, address(_registries))));
        require(done == code, "deployed beside no identities");
        (done, ) = address(this).call(abi.encodeCall(this.deploy, (address(_registries), account)));
        require(done == code, "deployed beside no devices");
        require(_orders.identities() == address(_registries) && _orders.devices() == address(_registries), "registries");
    }

    /// @notice Deploys UpdateOrders; called externally, so that a failure can be caught.
    function deploy(address identities, address devices) external {
        _deploy("UpdateOrders", abi.encode(identities, devices));
    }

    function _orderCall(
        bytes32 group,
        uint64 version,
        uint40 notBefore,
        uint40 deadline
    ) private view returns (bytes memory) {
        return abi.encodeCall(_orders.order, (group, 1, BLOCK_OTA, PRODUCT, version, notBefore, deadline));
    }

    function _cancelCall(uint64 id) private view returns (bytes memory) {
        return abi.encodeCall(_orders.cancel, (GROUP, 1, BLOCK_OTA, PRODUCT, id));
    }

    function _current(bytes32 group) private view returns (IUpdateOrders.Order memory) {
        return _orders.current(group, 1, BLOCK_OTA, PRODUCT);
    }

    function _expect(address sender, bytes memory call, bytes memory refusal) private {
        _expect(sender, address(_orders), call, refusal);
    }
}
